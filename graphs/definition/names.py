"""Names of namespaces, graphs, datasets, runs, secrets, templates, views and files; ids of rows.

One rule holds for all names but those of files: they are parts of URLs, files and one another.
"""

import re
import unicodedata
from collections.abc import Collection

from graphs.definition.errors import Malformed

MAX_ID = 2**63 - 1
MAX_ID_DIGITS = 19
LIMITS = {
    "namespace": 100,
    "graph": 200,
    "dataset": 200,
    "run id": 200,
    "secret": 200,
    "template": 200,
    "view": 100,
    "table": 200,
}
MAX_ENDING = 10  # characters after the dot of a file's name
MAX_FILE_NAME = 200  # bytes; file systems allow 255, and a storage may add some
# What Windows does not allow in names, controls, and marks that turn the direction of text around.
_UNSAFE = re.compile(
    r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]'
)
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])(?=[ .]*(\.|$))", re.I)


def checked(kind: str, name: str) -> str:
    """The name. Raises Malformed if it is not valid.

    `kind` is one of LIMITS. Spaces around a name are refused rather than cut off: with them, it
    is the name of something else.
    """
    limit = LIMITS[kind]
    if not name.strip():
        raise Malformed(f"A {kind} has 1 to {limit} characters; this one is blank.")
    if len(name) > limit:
        raise Malformed(f"A {kind} has 1 to {limit} characters; this one has {len(name)}.")
    if name in (".", "..") or "/" in name or not name.isprintable():
        raise Malformed(
            f"A {kind} can't be '.' or '..', and can't contain slashes or control characters;"
            f" {name!r:.80} is not allowed."
        )
    if name != name.strip():
        raise Malformed(f"A {kind} can't begin or end with a space; {name!r:.80} does.")
    return name


def file_name(text: str) -> str:
    """The text as the name of a file that every system can store, in no other folder.

    Every file that leaves the application, and every entry of a zip file, is named by it.
    """
    name = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
    name = _UNSAFE.sub("_", name).strip().rstrip(". ")
    if name.startswith("."):
        name = f"_{name}"
    if _RESERVED.match(name):
        name = f"_{name}"
    return _shortened(name) or "file"


def distinct(name: str, taken: Collection[str]) -> str:
    """The name of a file, with a number if it is taken: report.csv, report (2).csv.

    `taken` are results of `same_file`: many systems don't tell the case of letters apart.
    """
    stem, ending = _split(name)
    number = 1
    candidate = name
    while same_file(candidate) in taken:
        number += 1
        candidate = f"{stem} ({number}){ending}"
    return candidate


def same_file(name: str) -> str:
    """A text that is equal for all names that may be those of one file."""
    return unicodedata.normalize("NFC", name.casefold())


def _split(name: str) -> tuple[str, str]:
    """The name without its ending, and the ending with its dot."""
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending) > MAX_ENDING:
        return name, ""
    return stem, dot + ending


def _shortened(name: str) -> str:
    stem, ending = _split(name)
    room = MAX_FILE_NAME - len(ending.encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + ending


def parse_id(text: object) -> int | None:
    """The id of a row from a path or a query; None for anything that can't be one."""
    if not isinstance(text, str) or len(text) > MAX_ID_DIGITS:
        return None
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if number <= MAX_ID else None
