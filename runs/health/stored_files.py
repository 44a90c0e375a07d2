"""Whether the files are what their rows say, and have rows.

Rows are read a page at a time and folders a few runs at a time, so memory doesn't grow with the
number of files. The contents are read only on demand, because that takes as long as a backup.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice

from django.utils import timezone

from graphs.models import Dataset, DatasetTable
from runs.core import sql, statuses
from runs.engine.node_context import run_folder
from runs.models import Artifact, Run
from statemanager.file_storage import file_storage

PAGE = 2000  # rows
FOLDERS = 50  # runs whose files are listed at once
CHUNK = 2**20  # bytes
MAX_EXAMPLES = 5
# A file is stored before its row is committed. So newer files and folders may have no row yet.
MIN_AGE = timedelta(minutes=15)


@dataclass
class Found:
    """The number of things of a kind, with the first of them as examples."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(name)


@dataclass
class Compared:
    """Files that rows name: those that are missing, and those that are not what the row says."""

    missing: Found = field(default_factory=Found)
    size: Found = field(default_factory=Found)
    checksum: Found = field(default_factory=Found)


def compare(checksums: bool) -> Compared:
    """Compare the files of all rows with their rows: their sizes and, on demand, their contents."""
    compared = Compared()
    for model in (Artifact, DatasetTable):
        for file, size, checksum in _rows(model):
            try:
                is_same = file_storage.size(file) == size
                if not is_same:
                    compared.size.add(file)
                elif checksums and checksum and _checksum(file) != checksum:
                    compared.checksum.add(file)
            except FileNotFoundError:
                compared.missing.add(file)
    return compared


def _rows(model: type[Artifact] | type[DatasetTable]) -> Iterator[tuple[str, int, str]]:
    """(file, size, checksum) of all rows."""
    last = 0
    while True:
        following = model.objects.filter(pk__gt=last).order_by("pk")
        page = list(following.values_list("pk", "file", "size", "checksum")[:PAGE])
        if not page:
            return
        for _, *values in page:
            yield tuple(values)  # type: ignore[misc]
        last = page[-1][0]


def _checksum(file: str) -> str:
    digest = hashlib.sha256()
    with file_storage.open(file, "rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


# --- what has no row ------------------------------------------------------------------------------


def without_run() -> Iterator[int]:
    """The row ids of folders without a run."""
    for pks in _batches(_run_folders()):
        existing = set(Run.objects.filter(pk__in=pks).values_list("pk", flat=True))
        for pk in pks:
            if pk not in existing and is_old(run_folder(pk)):
                yield pk


def without_row() -> Iterator[str]:
    """The files of runs that have ended and of datasets that no row names.

    An attempt that was lost, or whose result was not recorded, leaves its files behind.
    """
    for pks in _batches(_run_folders()):
        ended = Run.objects.filter(pk__in=pks, status__in=statuses.ENDED_RUNS)
        ended_pks = sorted(ended.values_list("pk", flat=True))
        named = set(Artifact.objects.filter(run__in=ended_pks).values_list("file", flat=True))
        yield from _unnamed([run_folder(pk) for pk in ended_pks], named)
    for pks in _batches(_numbered("datasets")):
        existing = sorted(Dataset.objects.filter(pk__in=pks).values_list("pk", flat=True))
        tables = DatasetTable.objects.filter(dataset__in=existing)
        named = set(tables.values_list("file", flat=True))
        yield from _unnamed([f"datasets/{pk}" for pk in existing], named)


def _unnamed(folders: Iterable[str], named: set[str]) -> Iterator[str]:
    for folder in folders:
        for file in _files_below(folder):
            if file not in named and is_old(file):
                yield file


def _files_below(folder: str) -> Iterator[str]:
    try:
        folders, files = file_storage.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (f"{folder}/{name}" for name in files)
    for name in folders:
        yield from _files_below(f"{folder}/{name}")


def is_old(name: str) -> bool:
    """Whether a file or a folder has been there for a while.

    Its time comes from the clock of this host or from that of the storage. The earlier of the
    host's and the database's present time is taken, so that no file looks older than it is.
    """
    try:
        modified = file_storage.get_modified_time(name)
    except FileNotFoundError:
        return False
    return min(timezone.now(), sql.clock()) - modified > MIN_AGE


def _run_folders() -> Iterator[int]:
    """The row ids for which the storage has a folder."""
    for thousand in _numbered("runs"):
        yield from _numbered(f"runs/{thousand}")


def _numbered(folder: str) -> list[int]:
    """The numbers that folders in a folder have as names."""
    try:
        folders, _ = file_storage.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in folders if name.isdigit())


def _batches(pks: Iterable[int]) -> Iterator[Sequence[int]]:
    rest = iter(pks)
    while batch := list(islice(rest, FOLDERS)):
        yield batch
