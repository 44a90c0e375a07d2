"""Reading the states of an Exosphere system: an export of its `State` collection, one JSON document a line (mongoexport).

Rows that lack a run id (the system had none at first) are grouped, for each graph, under a default one. Imported runs are history: a state that
was not finished is CANCELLED here. Ids are kept: 24 hexadecimal digits become the end of ours, and `/v0` takes them in their own form, too.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from django.db import transaction
from django.db.models import Max, Min
from django.utils import timezone
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from graphs.definition import errors, names, payloads
from graphs.models import Graph, Namespace
from runs.core import statuses
from runs.engine import status_rules
from runs.models import Run, State

BATCH = 500
MAX_PROBLEMS = 20
_WORDS = {word: word for word in statuses.STATE_STATUSES} | {
    "EXECUTED": statuses.SUCCESS,
    "NEXT_CREATED": statuses.SUCCESS,
}


@dataclass
class Imported:
    """What an import did."""

    read: int = 0
    states: int = 0
    runs: int = 0
    without_run_id: int = 0
    unfinished: int = 0


@dataclass
class _Importer:
    default_run_id: str
    only: str
    done: Imported = field(default_factory=Imported)
    runs: dict[tuple[str, str, str], Run] = field(default_factory=dict)
    graphs: dict[tuple[str, str], Graph] = field(default_factory=dict)
    changed: dict[int, Run] = field(default_factory=dict)

    def store(self, rows: Iterable["_Row"]) -> None:
        batch: list[State] = []
        for row in rows:
            if self.only and row.namespace_name != self.only:
                continue
            batch.append(self._state(row))
            if len(batch) == BATCH:
                self._insert(batch)
                batch = []
        self._insert(batch)

    def _state(self, row: "_Row") -> State:
        self.done.read += 1
        word = _WORDS[row.status]
        unfinished = word in statuses.UNFINISHED
        self.done.unfinished += unfinished
        parents = list((row.parents or {}).values())
        said = f"It was {row.status} when it was exported." if unfinished else ""
        return State(
            pk=row.id,
            run=self._run(row),
            parent=parents[-1] if parents else None,
            created_at=row.created_at,
            retry_count=row.retry_count,
            identifier=row.identifier,
            node=row.node_name,
            inputs=row.inputs or {},
            outputs=(row.data if word == statuses.PRUNED else None) or row.outputs or {},
            error=payloads.clean(row.error or said, 10_000),
            status=statuses.CANCELLED if unfinished else word,
            attempt=0 if row.status == statuses.CREATED else 1,
            due_at=None,
            started_at=row.created_at,
            finished_at=max(row.created_at, row.updated_at),
        )

    def _run(self, row: "_Row") -> Run:
        run_id = row.run_id or f"{self.default_run_id}-{row.graph_name}"[:200]
        self.done.without_run_id += not row.run_id
        key = (row.namespace_name, row.graph_name, run_id)
        if key not in self.runs:
            self.runs[key] = self._stored_run(self._graph(*key[:2]), run_id)
        return self.runs[key]

    def _stored_run(self, graph: Graph, run_id: str) -> Run:
        """The run with this id; if that is another graph's, the one whose id names the graph, too."""
        for each in (run_id, f"{run_id} of graph {graph.name}"[:200]):
            values = {
                "graph": graph,
                "trigger": Run.Trigger.IMPORT,
                "workspace": graph.namespace.name,
                "status": statuses.RUN_CANCELLED,
            }
            run, made = Run.objects.get_or_create(
                namespace=graph.namespace,
                run_id=each,
                defaults={**values, "finished_at": timezone.now()},
            )
            if run.graph_id == graph.pk and run.trigger == Run.Trigger.IMPORT:
                self.done.runs += made
                return run
        raise errors.Conflict(
            f"The run id {run_id!r} of namespace {graph.namespace.name!r} is taken by a run that was not imported."
        )

    def _graph(self, namespace: str, name: str) -> Graph:
        if (namespace, name) not in self.graphs:
            found, _ = Namespace.objects.get_or_create(name=namespace)
            self.graphs[namespace, name], _ = Graph.objects.get_or_create(
                namespace=found, name=name
            )
        return self.graphs[namespace, name]

    def _insert(self, batch: list[State]) -> None:
        there = set(
            State.objects.filter(pk__in=[state.pk for state in batch]).values_list("pk", flat=True)
        )
        new = list({state.pk: state for state in batch if state.pk not in there}.values())
        State.objects.bulk_create(new)
        self.done.states += len(new)
        self.changed |= {state.run_id: state.run for state in new}


def import_states(lines: Iterable[str], default_run_id: str = "legacy", only: str = "") -> Imported:
    """Store the states of an export, all or none; those that are there already stay as they are.

    `lines` is read twice: a file, or a list. Raises Malformed with the first problems, each with its line.
    """
    if problems := [each for _, each in zip(range(MAX_PROBLEMS), _problems(lines), strict=False)]:
        raise errors.Malformed("Nothing was imported.", errors=problems)
    importer = _Importer(default_run_id, only)
    with transaction.atomic():
        importer.store(_rows(lines))
        for run in importer.changed.values():
            _count(run)
    return importer.done


def _rows(lines: Iterable[str]) -> Iterator["_Row"]:
    _rewind(lines)
    return (_Row.model_validate_json(line) for line in lines if line.strip())


def _problems(lines: Iterable[str]) -> Iterator[str]:
    _rewind(lines)
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("["):
            yield f"line {number}: this looks like a JSON array; export one document a line (mongoexport without --jsonArray)"
            return
        try:
            if line.strip():
                _Row.model_validate_json(line)
        except ValidationError as error:
            yield from (
                f"line {number}: {_said(each)}"[:500] for each in error.errors(include_url=False)
            )


def _rewind(lines: Any) -> None:
    if hasattr(lines, "seek"):
        lines.seek(0)


def _said(error: Mapping[str, Any]) -> str:
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}".removeprefix(": ")


# --- a row ------------------------------------------------------------------------------------------------------------


def _id(value: Any) -> uuid.UUID:
    """An ObjectId (24 hexadecimal digits, plain or as extended JSON) or a UUID."""
    text = value.get("$oid") if isinstance(value, dict) else value
    if not isinstance(text, str) or len(text) not in (24, 32, 36):
        raise ValueError("this is no id")
    return uuid.UUID(f"{'0' * 8}{text}" if len(text) == 24 else text)


def _time(value: Any) -> datetime:
    """ISO 8601 or milliseconds, plain or as extended JSON; without a zone it is UTC. Nothing at all is now."""
    value = value.get("$date") if isinstance(value, dict) else value
    value = value.get("$numberLong") if isinstance(value, dict) else value
    if value is None:
        return timezone.now()
    try:
        if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
            return datetime.fromtimestamp(int(value) / 1000, UTC)
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (OverflowError, OSError, TypeError):
        raise ValueError("this is no time") from None


def _name(kind: str) -> Any:
    def checked(value: str) -> str:
        try:
            return names.checked(kind, value)
        except errors.Malformed as error:
            raise ValueError(str(error)) from None

    return AfterValidator(checked)


def _storable(value: Any) -> Any:
    payloads.dump(value)
    return value


Id = Annotated[uuid.UUID, BeforeValidator(_id)]
Time = Annotated[datetime, BeforeValidator(_time)]
Payload = Annotated[dict[str, Any] | None, AfterValidator(_storable)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]


class _Row(BaseModel):
    """A document of Exosphere's `State` collection."""

    id: Id = Field(alias="_id")
    namespace_name: Annotated[str, _name("namespace")]
    graph_name: Annotated[str, _name("graph")]
    run_id: Annotated[str, _name("run id")] | None = None
    identifier: Text
    node_name: Text
    status: Literal[tuple(_WORDS)]  # type: ignore[valid-type]
    inputs: Payload = None
    outputs: Payload = None
    data: Payload = None
    error: str | None = None
    parents: dict[str, Id] | None = None
    retry_count: int = Field(default=0, ge=0, lt=2**31)
    created_at: Time = Field(default_factory=timezone.now)
    updated_at: Time = Field(default_factory=timezone.now)

    @field_validator("run_id", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None

    @field_validator("retry_count", mode="before")
    @classmethod
    def _none_is_zero(cls, value: Any) -> Any:
        return value or 0

    @model_validator(mode="after")
    def _not_its_own_parent(self) -> "_Row":
        if self.id in (self.parents or {}).values():
            raise ValueError("a state can't be among its own parents")
        return self


def _count(run: Run) -> None:
    """Write the run's counts, status and times from its states."""
    states = State.objects.filter(run=run)
    count = Counter(states.summary())
    good, failed = (
        count[statuses.SUCCESS] + count[statuses.PRUNED],
        sum(count[word] for word in statuses.FAILED_STATES),
    )
    times = states.aggregate(first=Min("created_at"), last=Max("finished_at"))
    bad = failed + count[statuses.CANCELLED]
    status = status_rules.final_status(good, bad)
    Run.objects.filter(pk=run.pk).update(
        status=status,
        success_count=good,
        errored_count=failed,
        cancelled_count=count[statuses.CANCELLED],
        retried_count=count[statuses.RETRY_CREATED],
        started_count=sum(count.values()),
        current_step=good,
        progress=status_rules.progress(status, status_rules.percent(good, good + bad)),
        created_at=times["first"],
        started_at=times["first"],
        finished_at=times["last"],
        updated_at=timezone.now(),
        revision=run.revision + 1,
    )
