"""The files of a dataset: unpacking, decoding and checking them before they are stored."""

import codecs
import hashlib
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from graphs.definition import errors, names
from graphs.services import dialects, encodings, tabular
from graphs.services.column_types import Column
from graphs.services.csv_files import BrokenTable, CsvReader, CsvWriter
from graphs.services.dialects import Undecided

MAX_ENTRIES = 1000  # tables in a zip file
MAX_UNPACKED = 20 * 2**30  # bytes
MAX_RATIO = 200  # bytes that one byte of a zip file may become
SMALL = 50 * 2**20  # bytes to which the ratio doesn't apply
COPY_BYTES = 2**18
ENDINGS = ".csv, .jsonl, .ndjson"
ZIP_UTF8 = 0x800  # the flag of an entry whose name is in UTF-8
MAX_PROBLEMS_IN_SENTENCE = 20


@dataclass(frozen=True)
class Reading:
    """How files are read: their encoding, and the delimiter of CSV files, or "" to find it out."""

    encoding: str = "utf-8"
    delimiter: str = ""


AS_IT_SEEMS = Reading()


class Problems(list[str]):
    """What is wrong with the files of a load.

    `choices` has the delimiters among which somebody has to choose, by the names of the files.
    """

    def __init__(self) -> None:
        super().__init__()
        self.choices: dict[str, list[str]] = {}

    def require_none(self, more: Iterable[str] = ()) -> None:
        """Raises Malformed if there are problems, these among them."""
        self.extend(more)
        if not self:
            return
        sentence = "; ".join(self[:MAX_PROBLEMS_IN_SENTENCE])
        extra = {"choices": self.choices} if self.choices else {}
        raise errors.Malformed(f"Nothing was loaded: {sentence}.", errors=list(self), **extra)


@dataclass
class Source:
    """A file to load: its name, and the file opened for reading bytes."""

    name: str
    file: IO[bytes]

    @property
    def table(self) -> str:
        """The name of the table: the name of the file without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def format(self) -> str | None:
        return tabular.format_of(self.name)

    @property
    def is_zip(self) -> bool:
        return PurePosixPath(self.name).suffix.lower() == ".zip"


@dataclass
class CheckedTable:
    """A table that was read without errors. `content` is a copy of the file in UTF-8.

    The columns of a CSV file are separated by commas in the copy; `delimiter` is the file's own.
    """

    name: str
    format: str
    columns: list[Column]
    rows: int
    content: "Content"
    delimiter: str


class Content:
    """A temporary file with its size in bytes and the SHA-256 of what was written to it."""

    def __init__(self, stack: ExitStack) -> None:
        self.file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self.size = 0
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self.size += len(data)
        self.file.write(data)

    def from_start(self) -> IO[bytes]:
        self.file.seek(0)
        return self.file

    @property
    def checksum(self) -> str:
        return self._digest.hexdigest()


@contextmanager
def sources_at(path: Path) -> Iterator[list[Source]]:
    """Open a file, or the tables and zip files of a folder. Raises NotFound if there is nothing."""
    if not path.exists():
        raise errors.NotFound(f"There is no file or folder {str(path)!r}.")
    files = [path]
    if path.is_dir():
        endings = (*tabular.FORMATS, ".zip")
        inside = [file for file in path.iterdir() if file.suffix.lower() in endings]
        files = sorted(file for file in inside if not _of_a_system(file.name))
    with ExitStack() as stack:
        yield [Source(file.name, stack.enter_context(file.open("rb"))) for file in files]


def repeated_names(tables: Iterable[CheckedTable]) -> list[str]:
    counts = Counter(table.name for table in tables)
    return [f"two files make a table {name!r}" for name, count in counts.items() if count > 1]


# --- unpacking -------------------------------------------------------------------------------


def unpacked(source: Source, stack: ExitStack, problems: Problems) -> list[Source]:
    """The tables of a zip file, or the file itself. Adds to the problems what can't be loaded."""
    if source.is_zip:
        return _entries(source, stack, problems)
    if source.format is None:
        problems.append(f"{source.name}: not a {ENDINGS} or .zip file")
        return []
    return [source]


def _entries(source: Source, stack: ExitStack, problems: Problems) -> list[Source]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(source.file))
        paths = {entry: _path_of(entry) for entry in archive.infolist() if not entry.is_dir()}
        entries = {
            entry: PurePosixPath(path).name
            for entry, path in paths.items()
            if tabular.format_of(path) and not _of_a_system(path)
        }
        problem = _problem_of(list(entries), source.file.seek(0, os.SEEK_END))
        if problem:
            problems.append(f"{source.name}: {problem}")
            return []
        return [
            Source(name, stack.enter_context(archive.open(entry)))
            for entry, name in entries.items()
        ]
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        problems.append(f"{source.name}: the zip file can't be read ({error})")
        return []


def _path_of(entry: zipfile.ZipInfo) -> str:
    """The path of an entry, with slashes.

    macOS writes names in UTF-8 without saying so; zipfile then reads them as code page 437.
    """
    path = entry.filename
    if not entry.flag_bits & ZIP_UTF8:
        with suppress(UnicodeError):  # a name in another code page
            path = path.encode("cp437").decode("utf-8")
    return path.replace("\\", "/")


def _of_a_system(path: str) -> bool:
    """Whether a file was put there by macOS, which keeps icons and the like beside each file."""
    parts = PurePosixPath(path).parts
    return "__MACOSX" in parts or parts[-1].startswith("._")


def _problem_of(entries: list[zipfile.ZipInfo], packed: int) -> str:
    """What is wrong with the tables of a zip file of this many bytes, or "".

    The limits refuse zip bombs. Reading an entry ends at the size that it declares.
    """
    if not entries:
        return f"the zip file contains no {ENDINGS} file"
    if len(entries) > MAX_ENTRIES:
        return f"{len(entries):,} tables; {MAX_ENTRIES:,} are allowed"
    size = sum(entry.file_size for entry in entries)
    if size > MAX_UNPACKED:
        return f"{size:,} bytes when unpacked; {MAX_UNPACKED:,} are allowed"
    if size > max(SMALL, MAX_RATIO * packed):
        return (
            f"{size:,} bytes when unpacked, more than {MAX_RATIO} times the zip file's {packed:,}"
        )
    return ""


# --- decoding and checking -------------------------------------------------------------------


def check(
    source: Source, reading: Reading, stack: ExitStack, problems: Problems
) -> CheckedTable | None:
    """Copy a file to a temporary UTF-8 file, and read the copy to check it and find its types.

    Adds to the problems, and returns None, if the file can't be read as a table.
    """
    content = Content(stack)
    try:
        name = names.checked("table", source.table)
        copy_decoded(source, reading.encoding, content)
        if source.format == "jsonl":
            return _check_jsonl(source, name, content)
        return _check_csv(source, name, content, reading, stack)
    except Undecided as error:
        problems.choices[source.name] = [dialects.NAMES[choice] for choice in error.choices]
        problems.append(str(error))
    except errors.Malformed as error:
        problems.append(f"{source.name:.80}: {error}")
    except (BrokenTable, zipfile.BadZipFile, LookupError, EOFError) as error:
        problems.append(str(error))
    except UnicodeError as error:
        encoding = getattr(error, "encoding", reading.encoding)
        problems.append(f"{source.name}: not {encoding} ({error})")
    return None


def _check_jsonl(source: Source, name: str, content: Content) -> CheckedTable:
    seen = tabular.RowsSeen()
    for _ in seen.watch(tabular.read_jsonl(content.from_start(), source.name)):
        pass
    return CheckedTable(name, "jsonl", seen.columns, seen.rows, content, "")


def _check_csv(
    source: Source, name: str, content: Content, reading: Reading, stack: ExitStack
) -> CheckedTable:
    delimiter = reading.delimiter or dialects.delimiter_of(content.from_start(), source.name)
    reader = CsvReader(content.from_start(), source.name, delimiter)
    rows = iter(reader) if reading.delimiter else dialects.checked(reader, source.name)
    if delimiter != ",":
        content = Content(stack)
        rows = _copied(reader.header, rows, content)
    columns, count = tabular.inspect_csv(reader.header, rows)
    return CheckedTable(name, "csv", columns, count, content, delimiter)


def _copied(header: list[str], rows: Iterable[list[str]], target: Content) -> Iterator[list[str]]:
    """The same rows, which are written to a file with commas on the way."""
    writer = CsvWriter(header)
    target.write(writer.line(header).encode())
    for row in rows:
        target.write(writer.line(row).encode())
        yield row


def copy_decoded(source: Source, encoding: str, target: Content, limit: int | None = None) -> None:
    """Copy a file, or its first `limit` bytes, as UTF-8.

    Raises LookupError for an unknown encoding, and UnicodeError if the file is in another one.
    """
    codec = codecs.lookup(encoding)
    if not codec._is_text_encoding:  # such as "zlib" and "base64"
        raise LookupError(f"{encoding} is not an encoding of text")
    chunk = source.file.read(min(COPY_BYTES, limit or COPY_BYTES))
    codec = codecs.lookup(encodings.by_mark(chunk) or codec.name)
    decoder = None
    if codec.name != "utf-8" and codec.incrementaldecoder:
        decoder = codec.incrementaldecoder()

    read = 0
    while chunk:
        read += len(chunk)
        target.write(decoder.decode(chunk).encode() if decoder else chunk)
        chunk = source.file.read(COPY_BYTES) if limit is None or read < limit else b""
    if decoder and limit is None:
        target.write(decoder.decode(b"", final=True).encode())
    target.file.flush()
