"""What a running node is given (`graphs.nodes.base.Context`), over one claimed state."""

import hashlib
import math
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import count
from time import monotonic
from typing import BinaryIO, TypeVar, cast

from django.core.files.base import File as DjangoFile
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from graphs.definition import names, payloads
from graphs.definition.types import Json, JsonObject
from graphs.models import DatasetTable
from graphs.nodes.base import STOPPED, Column, File, NodeFailed, Table, registry
from graphs.services import table_reader, tabular
from graphs.services.masking import Mask
from graphs.services.secrets import mask_of, reveal
from graphs.services.table_reader import TableRows
from runs.core.failpoints import failpoint
from runs.engine.types import Claimed, Line, OutputFile, idempotency_key
from runs.models import Run, State, ToolResult
from statemanager.conf import conf
from statemanager.file_storage import file_storage

T = TypeVar("T")
MAX_LINES = 1000  # that wait to be stored
MAX_LINE = 10_000  # characters
MAX_KEY = 1500  # characters of a tool result's key
LEVELS = ("debug", "info", "warning", "error")


class NodeContext:
    """Collects the lines, files and progress of one attempt.

    The executor records them, if the fence still holds. The node's thread and the reporter's use
    the context at the same time.
    """

    def __init__(self, state: Claimed) -> None:
        self.state = state
        self.run_id = state.run.run_id
        self.namespace = state.run.namespace
        self.dataset_id = state.run.dataset_id
        self.identifier = state.identifier
        self.attempt = state.attempt or 0  # only reports of older SDKs come without an attempt
        self.answer = state.answer

        self.emitted = 0
        self.fraction = 0.0
        self.files: list[OutputFile] = []
        self.mask = Mask(())
        self.given_up = False
        self._secrets: dict[str, str] | None = None
        self._cancelled = threading.Event()
        self._lines: deque[Line] = deque(maxlen=MAX_LINES)
        self._dropped = 0

        # What the reporter has told the database, and when it last confirmed the lease.
        self.reported = 0.0
        self.announced = False
        self.heard = monotonic()

    @cached_property
    def idempotency_key(self) -> str:
        return idempotency_key(self.namespace, self.run_id, self.state.step)

    # --- stopping ------------------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()

    def give_up(self) -> None:
        """Stop, and give the state back whatever comes of it.

        The lease may end before the database answers again.
        """
        self.given_up = True
        self._cancelled.set()

    def stop_if_cancelled(self) -> None:
        if self.cancelled:
            raise NodeFailed(STOPPED)

    # --- secrets -------------------------------------------------------------------------------

    @property
    def secrets(self) -> Mapping[str, str]:
        if self._secrets is None:
            version_id = self.state.run.version_id
            declared = registry[self.state.node.kind].secrets
            secrets = reveal(version_id, declared)
            missing = [name for name in declared if name not in secrets]
            if missing:
                raise NodeFailed(f"the graph has no secret {', '.join(missing)}")
            self._secrets = secrets
            self.mask = mask_of(version_id, declared)
        return self._secrets

    # --- log, progress and counts --------------------------------------------------------------

    def log(self, message: str, level: str = "info", **fields: object) -> None:
        if level not in LEVELS:
            levels = ", ".join(LEVELS)
            raise ValueError(f"the level of a log line is one of {levels}; not {level!r}")
        if len(self._lines) == MAX_LINES:
            self._dropped += 1
        named = [f"{name}={value}" for name, value in fields.items()]
        text = payloads.clean(self.mask.text(" ".join([str(message), *named])), MAX_LINE)
        self._lines.append((timezone.now(), level, text))

    def take_lines(self) -> list[Line]:
        """The lines since the last call.

        After a flood these are the newest ones, and a line with the number of lines dropped.
        """
        lines: list[Line] = []
        with suppress(IndexError):  # another thread may take lines at the same time
            while True:
                lines.append(self._lines.popleft())
        if self._dropped:
            dropped = f"{self._dropped:,} older lines were dropped"
            message = f"{self.identifier} logged too fast: {dropped}"
            lines.insert(0, (timezone.now(), "warning", message))
            self._dropped = 0
        return lines

    def keep_lines(self, lines: Sequence[Line]) -> None:
        """Put lines that could not be stored back to the front, as far as there is room."""
        room = MAX_LINES - len(self._lines)
        if room > 0:
            self._lines.extendleft(reversed(lines[-room:]))

    def progress(self, fraction: float) -> None:
        if not math.isfinite(fraction):
            raise NodeFailed(f"progress is a number from 0 to 1; not {fraction}")
        self.fraction = min(max(float(fraction), 0.0), 1.0)

    def emit(self, rows: int) -> None:
        if not isinstance(rows, int) or rows < 0:
            raise NodeFailed(f"emit takes a number of rows; not {rows!r}")
        self.emitted += rows

    # --- tools ---------------------------------------------------------------------------------

    def once(self, tool: str, args: Json, call: Callable[[], Json]) -> Json:
        args_digest = hashlib.sha256(payloads.dump(args).encode()).hexdigest()[:16]
        # Without a colon in the name of the tool, no two calls share a key.
        name = tool.replace("%", "%25").replace(":", "%3A")
        key = f"{self.run_id}:{self.state.step}:{name}:{args_digest}"
        digest = hashlib.sha256(key.encode()).hexdigest()
        key = self.mask.text(key)
        results = ToolResult.objects.filter(run_id=self.state.run.pk, digest=digest)
        recorded = results.first()
        if recorded is None:
            self._require_room()
            result = self.mask.value(call())
            failpoint("mid-node")
            size = payloads.size(payloads.dump(result))
            # Another attempt may be faster; then its result is the recorded one.
            with suppress(IntegrityError), transaction.atomic():
                self._require_state()
                run = Run.objects.filter(pk=self.state.run.pk)
                # The new revision tells a worker that knows the counters that they have changed.
                run.update(stored_bytes=F("stored_bytes") + size, revision=F("revision") + 1)
                ToolResult.objects.create(
                    run_id=self.state.run.pk, key=_stored_key(key), digest=digest, result=result
                )
            recorded = results.get()  # as JSON gives it back to every later attempt
        return recorded.result

    def _require_room(self) -> None:
        """Raises NodeFailed if the run may not store any more, before a call that can't be undone.

        So the results of calls that go on at once may exceed the limit, each by its own size.
        """
        if self._stored_bytes() >= conf.MAX_RUN_BYTES:
            raise NodeFailed(
                f"nothing was called, because the run stores {conf.MAX_RUN_BYTES:,} bytes"
                " already; store less, or raise MAX_RUN_BYTES"
            )

    def _stored_bytes(self) -> int:
        run = Run.objects.filter(pk=self.state.run.pk)
        return run.values_list("stored_bytes", flat=True).first() or 0

    @cached_property
    def _room(self) -> int:
        """How many bytes the files of this state may have."""
        return conf.MAX_RUN_BYTES - self._stored_bytes()

    def _require_state(self) -> None:
        """Raises NodeFailed if the state is gone, because its run was deleted or was lost in a
        failover. The key of the run may be another run's by now.
        """
        if not State.objects.filter(pk=self.state.id, run=self.state.run.pk).exists():
            raise NodeFailed("the state is gone; its run was deleted meanwhile")

    # --- files ---------------------------------------------------------------------------------

    @property
    def folder(self) -> str:
        return run_folder(self.state.run.pk)

    @contextmanager
    def artifact(self, name: str) -> Iterator["_Writer"]:
        with self._file(name, "file") as writer:
            yield writer

    @contextmanager
    def _file(self, name: str, kind: str) -> Iterator["_Writer"]:
        name = payloads.clean(self.mask.text(name), 200).strip()
        if not name:
            raise NodeFailed("a file needs a name")
        path = f"{self.folder}/{self.state.id}-{self.attempt}/{names.file_name(name)}"
        writer = _Writer(self._room - sum(file["size"] for file in self.files))
        try:
            yield writer
        except BaseException:
            writer.discard()
            raise
        stored = writer.store(path)
        checksum = writer.checksum.hexdigest()
        writer.file = File(name=name, file=stored, size=writer.size, checksum=checksum)
        self.files.append(OutputFile(kind=kind, **writer.file))

    @contextmanager
    def open_file(self, file: str) -> Iterator[BinaryIO]:
        """Open a file of this run or of its dataset; others are refused."""
        if ".." in file.split("/") or not (self._is_of_run(file) or self._is_of_dataset(file)):
            raise NodeFailed(f"{file!r} is no file of this run or its dataset")
        with file_storage.open(file, "rb") as opened:
            yield cast(BinaryIO, opened)

    def _is_of_run(self, file: str) -> bool:
        return file.startswith(f"{self.folder}/")

    def _is_of_dataset(self, file: str) -> bool:
        if self.dataset_id is None or not file.startswith("datasets/"):
            return False
        return DatasetTable.objects.filter(dataset_id=self.dataset_id, file=file).exists()

    # --- tables --------------------------------------------------------------------------------

    def dataset_table(self, name: str) -> Table:
        if self.dataset_id is None:
            raise NodeFailed("this run has no dataset; start it with one")
        stored = DatasetTable.objects.filter(dataset_id=self.dataset_id)
        tables = {table.name: table for table in stored}
        if name not in tables:
            names = ", ".join(sorted(tables)) or "none"
            raise NodeFailed(f"the dataset has no table {name!r}; it has {names}")
        table = tables[name]
        return Table(file=table.file, format=table.format, columns=table.columns, rows=table.rows)

    def rows(self, table: Table) -> Iterator[JsonObject]:
        file_name = table["file"].rpartition("/")[2]
        with self.open_file(table["file"]) as file:
            rows = tabular.read_rows(file, file_name, table["format"], table["columns"])
            for at, row in enumerate(rows):
                if at % 1000 == 0:
                    self.stop_if_cancelled()
                yield row

    @contextmanager
    def open_table(self, table: Table) -> Iterator[TableRows]:
        file_name = table["file"].rpartition("/")[2]
        with self.open_file(table["file"]) as file:
            yield table_reader.open_table(file, file_name, table["format"], table["columns"])

    def write_lines(
        self,
        name: str,
        format: str,
        lines: Iterator[str],
        columns: list[Column],
        heading: str = "",
    ) -> Table:
        counter = count()
        counted = (line for line, _ in zip(lines, counter, strict=False))
        with self._file(f"{name}.{format}", "table") as writer:
            writer.write(heading.encode())
            for chunk in tabular.in_chunks(counted):
                self.stop_if_cancelled()
                writer.write(chunk)
        return Table(file=writer.file["file"], format=format, columns=columns, rows=next(counter))

    def write_table(
        self, name: str, rows: Iterator[Mapping[str, Json]], columns: list[Column] | None = None
    ) -> Table:
        seen = tabular.RowsSeen()
        with self._file(f"{name}.jsonl", "table") as writer:
            for chunk in tabular.write_jsonl(seen.watch(rows)):
                writer.write(chunk)
        if columns is None:
            columns = seen.columns
        return Table(file=writer.file["file"], format="jsonl", columns=columns, rows=seen.rows)


class _Writer:
    """A file that is written to a temporary place. The storage gets it when it is complete."""

    def __init__(self, room: int) -> None:
        self._room = room  # bytes
        # `store` or `discard` closes it.
        self._file = tempfile.NamedTemporaryFile(prefix="statemanager-")  # noqa: SIM115
        self.size = 0
        self.checksum = hashlib.sha256()
        self.file: File

    def write(self, data: bytes) -> int:
        self.size += len(data)
        if self.size > self._room:
            raise NodeFailed(
                f"the run would store more than {conf.MAX_RUN_BYTES:,} bytes with this file;"
                " store less, or raise MAX_RUN_BYTES"
            )
        self.checksum.update(data)
        return self._file.write(data)

    def store(self, path: str) -> str:
        self._file.flush()
        self._file.seek(0)
        with self._file:
            return file_storage.save(path, DjangoFile(self._file))

    def discard(self) -> None:
        self._file.close()


def _stored_key(key: str) -> str:
    """The key as it fits into its column; a longer one ends with a digest of all of it."""
    if len(key) <= MAX_KEY:
        return key
    return f"{key[: MAX_KEY - 65]}:{hashlib.sha256(key.encode()).hexdigest()}"


def run_folder(pk: int) -> str:
    """The folder in the storage for all files of a run. A thousand runs share its parent."""
    return f"runs/{pk // 1000}/{pk}"
