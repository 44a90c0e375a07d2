"""What a running node is given (`graphs.nodes.base.Context`), over one claimed state."""

import hashlib
import math
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from time import monotonic
from typing import Any, BinaryIO, cast

from django.core.files.base import File as DjangoFile
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import get_valid_filename

from graphs.definition import payloads
from graphs.models import DatasetTable
from graphs.nodes.base import Column, File, NodeFailed, Table, registry
from graphs.services import tabular
from graphs.services.secrets import Mask, mask_of, reveal
from runs.core.failpoints import failpoint
from runs.engine.types import Claimed, Line
from runs.models import ToolResult

LINES_KEPT = 1000
LEVELS = ("debug", "info", "warning", "error")
MAX_LINE = 10_000


class NodeContext:
    """Collects what one attempt says and makes; the executor records it, if the fence still holds."""

    def __init__(self, state: Claimed) -> None:
        self.state = state
        self.run_id, self.namespace, self.dataset_id = (
            state.run.run_id,
            state.run.namespace,
            state.run.dataset_id,
        )
        self.identifier = state.identifier
        self.attempt = state.attempt or 0  # only a report of an old SDK comes without an attempt
        self.answer = state.answer
        self.idempotency_key = f"{state.run.run_id}:{state.step}"
        self.emitted = 0
        self.fraction = self.reported = 0.0
        self.announced = False
        self.files: list[dict[str, Any]] = []
        self.mask = Mask(())
        self._secrets: dict[str, str] | None = None
        self.heard = monotonic()  # when the database last confirmed the lease
        self.given_up = False
        self._cancelled = threading.Event()
        self._lines: deque[Line] = deque(maxlen=LINES_KEPT)
        self._dropped = 0

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()

    def give_up(self) -> None:
        """Stop, and let nothing that comes of it count: the lease may be over before the database answers."""
        self.given_up = True
        self._cancelled.set()

    @property
    def secrets(self) -> Mapping[str, str]:
        if self._secrets is None:
            wanted = registry[self.state.node.kind].secrets
            found = reveal(self.state.run.version_id, wanted)
            if missing := [name for name in wanted if name not in found]:
                raise NodeFailed(f"the graph has no secret {', '.join(missing)}")
            self._secrets, self.mask = found, mask_of(self.state.run.version_id, wanted)
        return self._secrets

    def log(self, message: str, level: str = "info") -> None:
        if level not in LEVELS:
            raise ValueError(
                f"the level of a log line is one of {', '.join(LEVELS)}; not {level!r}"
            )
        if len(self._lines) == LINES_KEPT:
            self._dropped += 1
        self._lines.append(
            (timezone.now(), level, payloads.clean(self.mask.text(str(message)), MAX_LINE))
        )

    def take_lines(self) -> list[Line]:
        """The lines since the last call; a flood leaves its newest lines and one that says how many were dropped."""
        lines: list[Line] = []
        with suppress(IndexError):  # the node's thread and the reporter may both be here
            while True:
                lines.append(self._lines.popleft())
        if self._dropped:
            lines.insert(
                0,
                (
                    timezone.now(),
                    "warning",
                    f"{self.identifier} said too much at once: {self._dropped:,} older lines were dropped",
                ),
            )
            self._dropped = 0
        return lines

    def keep_lines(self, lines: Sequence[Line]) -> None:
        """Lines that could not be stored come first when there is another try."""
        room = LINES_KEPT - len(self._lines)
        self._lines.extendleft(reversed(lines[-room:] if room > 0 else ()))

    def progress(self, fraction: float) -> None:
        if not math.isfinite(fraction):
            raise NodeFailed(f"progress is a number from 0 to 1; not {fraction}")
        self.fraction = min(max(float(fraction), 0.0), 1.0)

    def emit(self, rows: int) -> None:
        if not isinstance(rows, int) or rows < 0:
            raise NodeFailed(f"emit takes a number of rows; not {rows!r}")
        self.emitted += rows

    def once(self, tool: str, args: Any, call: Callable[[], Any]) -> Any:
        key = f"{self.run_id}:{self.state.step}:{tool}:{hashlib.sha256(payloads.dump(args).encode()).hexdigest()[:16]}"
        digest = hashlib.sha256(key.encode()).hexdigest()
        mine = ToolResult.objects.filter(run_id=self.state.run.pk, digest=digest)
        recorded = mine.first()
        if recorded is None:
            result = call()
            failpoint("mid-node")
            payloads.dump(result)
            with (
                suppress(IntegrityError),
                transaction.atomic(),
            ):  # another attempt may be faster: its result is the recorded one
                ToolResult.objects.create(
                    run_id=self.state.run.pk, key=key[:1500], digest=digest, result=result
                )
            recorded = mine.get()  # as every later attempt reads it
        return recorded.result

    # --- files -----------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> str:
        return run_folder(self.state.run.pk)

    @contextmanager
    def artifact(self, name: str) -> Iterator["_Writer"]:
        with self._file(name, "file") as writer:
            yield writer

    @contextmanager
    def _file(self, name: str, kind: str) -> Iterator["_Writer"]:
        if not (name := payloads.clean(name, 200).strip()):
            raise NodeFailed("a file needs a name")
        path = f"{self.folder}/{self.state.id}-{self.attempt}/{get_valid_filename(name)}"
        writer = _Writer()
        try:
            yield writer
        except BaseException:
            writer.discard()
            raise
        stored = writer.store(path)
        writer.file = File(
            name=name, file=stored, size=writer.size, checksum=writer.checksum.hexdigest()
        )
        self.files.append({"kind": kind, **writer.file})

    def dataset_table(self, name: str) -> Table:
        if self.dataset_id is None:
            raise NodeFailed("this run has no dataset; start it with one")
        found = {
            table.name: table for table in DatasetTable.objects.filter(dataset_id=self.dataset_id)
        }
        if name not in found:
            raise NodeFailed(
                f"the dataset has no table {name!r}; it has {', '.join(sorted(found)) or 'none'}"
            )
        table = found[name]
        return Table(file=table.file, format=table.format, columns=table.columns, rows=table.rows)

    def rows(self, table: Table) -> Iterator[dict[str, Any]]:
        with self.open_file(table["file"]) as file:
            for at, row in enumerate(
                tabular.read_rows(
                    file, table["file"].rpartition("/")[2], table["format"], table["columns"]
                )
            ):
                if at % 1000 == 0:
                    self.stop_if_cancelled()
                yield row

    def write_table(
        self, name: str, rows: Iterator[Mapping[str, Any]], columns: list[Column] | None = None
    ) -> Table:
        seen = tabular.TypesSeen()
        with self._file(f"{name}.jsonl", "table") as writer:
            for chunk in tabular.write_jsonl(seen.watch_json(rows)):
                writer.write(chunk)
        known = (
            columns
            if columns is not None
            else [Column(name=each["name"], type=each["type"]) for each in seen.columns]
        )
        return Table(file=writer.file["file"], format="jsonl", columns=known, rows=seen.rows)

    @contextmanager
    def open_file(self, file: str) -> Iterator[BinaryIO]:
        """Only files of this run and of its dataset can be opened."""
        own = f"{self.folder}/", f"datasets/{self.dataset_id}/"
        if ".." in file.split("/") or not file.startswith(own):
            raise NodeFailed(f"{file!r} is no file of this run or its dataset")
        with default_storage.open(file, "rb") as opened:
            yield cast(BinaryIO, opened)

    def stop_if_cancelled(self) -> None:
        if self.cancelled:
            raise NodeFailed("stopped: the run was cancelled or the lease of this attempt was lost")


class _Writer:
    """A file being written to a temporary place; the storage gets it when it is whole."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="statemanager-")  # noqa: SIM115  (closed by store or discard)
        self.size, self.checksum = 0, hashlib.sha256()
        self.file: File

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.checksum.update(data)
        return self._file.write(data)

    def store(self, path: str) -> str:
        self._file.flush()
        self._file.seek(0)
        with self._file:
            return default_storage.save(path, DjangoFile(self._file))

    def discard(self) -> None:
        self._file.close()


def run_folder(pk: int) -> str:
    """Where in the storage all files of a run lie; a thousand runs to a folder."""
    return f"runs/{pk // 1000}/{pk}"


def taken(values: Iterator[Any], limit: int) -> list[Any]:
    """The values of a generator; more than `limit` of them is a failure, not a full memory."""
    found = list(islice(values, limit + 1))
    if len(found) > limit:
        raise NodeFailed(f"more than {limit:,} outputs; a state may fan out into that many")
    return found
