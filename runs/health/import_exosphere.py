"""Importing the states of an Exosphere system from an export of its `State` collection.

The export has one JSON document a line, as mongoexport writes it. Rows without a run id, which the
system did not have at first, are grouped by graph under a default one.

Imported runs are history and are never executed: a state that was unfinished is CANCELLED here.
States keep their ids. An ObjectId of 24 hexadecimal digits becomes the end of a UUID, and `/v0`
accepts it in its own form, too.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from django.db import transaction
from django.db.models import Max, Min
from django.utils import timezone
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from graphs.definition import errors, payloads
from graphs.models import Graph, Namespace
from runs.core import statuses
from runs.engine import status_rules
from runs.health.exosphere_row import STATUSES, ExosphereRow
from runs.models import Run, State

BATCH = 500
MAX_PROBLEMS = 20
MAX_PROBLEM = 500
MAX_RUN_ID = 200
MAX_ERROR = 10_000


@dataclass
class Imported:
    """How many rows were read, how many states and runs are new, and what some rows lacked."""

    read: int = 0
    states: int = 0
    runs: int = 0
    without_run_id: int = 0
    unfinished: int = 0


def import_states(lines: Iterable[str], default_run_id: str = "legacy", only: str = "") -> Imported:
    """Store the states of an export, all of them or none. States that exist are not changed.

    `lines` is read twice, so it must be a file or a list. `only` names the one namespace to import.
    Raises Malformed with the first 20 problems and their lines, and Conflict if a run id is taken.
    """
    problems = list(islice(_problems(lines), MAX_PROBLEMS))
    if problems:
        raise errors.Malformed("Nothing was imported.", errors=problems)
    importer = _Importer(default_run_id, only)
    with transaction.atomic():
        importer.store(_rows(lines))
        for run in importer.changed.values():
            _count(run)
    return importer.result


# --- lines --------------------------------------------------------------------------------------


def _rows(lines: Iterable[str]) -> Iterator[ExosphereRow]:
    _rewind(lines)
    return (ExosphereRow.model_validate_json(line) for line in lines if line.strip())


def _problems(lines: Iterable[str]) -> Iterator[str]:
    _rewind(lines)
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("["):
            yield (
                f"line {number}: this looks like a JSON array;"
                " export one document a line (mongoexport without --jsonArray)"
            )
            return
        try:
            if line.strip():
                ExosphereRow.model_validate_json(line)
        except ValidationError as error:
            for details in error.errors(include_url=False):
                yield f"line {number}: {_describe(details)}"[:MAX_PROBLEM]


def _rewind(lines: Iterable[str]) -> None:
    if hasattr(lines, "seek"):
        lines.seek(0)


def _describe(details: ErrorDetails) -> str:
    place = ".".join(map(str, details["loc"]))
    return f"{place}: {details['msg']}" if place else details["msg"]


# --- states and runs ----------------------------------------------------------------------------


@dataclass
class _Importer:
    default_run_id: str
    only: str
    result: Imported = field(default_factory=Imported)
    runs: dict[tuple[str, str, str], Run] = field(default_factory=dict)
    graphs: dict[tuple[str, str], Graph] = field(default_factory=dict)
    changed: dict[int, Run] = field(default_factory=dict)

    def store(self, rows: Iterable[ExosphereRow]) -> None:
        batch: list[State] = []
        for row in rows:
            if self.only and row.namespace_name != self.only:
                continue
            batch.append(self._state(row))
            if len(batch) == BATCH:
                self._insert(batch)
                batch = []
        self._insert(batch)

    def _state(self, row: ExosphereRow) -> State:
        status = STATUSES[row.status]
        unfinished = status in statuses.UNFINISHED
        error = row.error or ""
        if unfinished:
            error = error or f"It was {row.status} when it was exported."
        self.result.read += 1
        self.result.unfinished += unfinished
        parents = list((row.parents or {}).values())
        pruned_data = row.data if status == statuses.PRUNED else None
        return State(
            pk=row.id,
            run=self._run(row),
            parent=parents[-1] if parents else None,
            created_at=row.created_at,
            retry_count=row.retry_count,
            identifier=row.identifier,
            node=row.node_name,
            inputs=row.inputs or {},
            outputs=pruned_data or row.outputs or {},
            error=payloads.clean(error, MAX_ERROR),
            status=statuses.CANCELLED if unfinished else status,
            attempt=0 if row.status == statuses.CREATED else 1,
            due_at=None,
            started_at=row.created_at,
            finished_at=max(row.created_at, row.updated_at),
        )

    def _run(self, row: ExosphereRow) -> Run:
        run_id = row.run_id or f"{self.default_run_id}-{row.graph_name}"[:MAX_RUN_ID]
        self.result.without_run_id += not row.run_id
        key = (row.namespace_name, row.graph_name, run_id)
        if key not in self.runs:
            graph = self._graph(row.namespace_name, row.graph_name)
            self.runs[key] = self._stored_run(graph, run_id)
        return self.runs[key]

    def _stored_run(self, graph: Graph, run_id: str) -> Run:
        """Return the imported run with this id, which is created if there is none.

        If the id belongs to another run, the graph's name is added to it. Raises Conflict if that
        id is taken, too.
        """
        for candidate in (run_id, f"{run_id} of graph {graph.name}"[:MAX_RUN_ID]):
            run, created = Run.objects.get_or_create(
                namespace=graph.namespace,
                run_id=candidate,
                defaults={
                    "graph": graph,
                    "trigger": Run.Trigger.IMPORT,
                    "workspace": graph.namespace.name,
                    "status": statuses.RUN_CANCELLED,
                    "finished_at": timezone.now(),
                },
            )
            if run.graph_id == graph.pk and run.trigger == Run.Trigger.IMPORT:
                self.result.runs += created
                return run
        raise errors.Conflict(
            f"The run id {run_id!r} of namespace {graph.namespace.name!r} belongs to a run that was"
            " not imported."
        )

    def _graph(self, namespace_name: str, name: str) -> Graph:
        key = (namespace_name, name)
        if key not in self.graphs:
            namespace, _ = Namespace.objects.get_or_create(name=namespace_name)
            self.graphs[key], _ = Graph.objects.get_or_create(namespace=namespace, name=name)
        return self.graphs[key]

    def _insert(self, batch: list[State]) -> None:
        pks = [state.pk for state in batch]
        existing = set(State.objects.filter(pk__in=pks).values_list("pk", flat=True))
        new = {state.pk: state for state in batch if state.pk not in existing}
        State.objects.bulk_create(new.values())
        self.result.states += len(new)
        self.changed |= {state.run_id: state.run for state in new.values()}


def _count(run: Run) -> None:
    """Write the run's counters, status and times from its states."""
    states = State.objects.filter(run=run)
    counts = Counter(states.summary())
    succeeded = counts[statuses.SUCCESS] + counts[statuses.PRUNED]
    failed = sum(counts[status] for status in statuses.FAILED_STATES)
    cancelled = counts[statuses.CANCELLED]
    status = status_rules.final_status(succeeded, failed + cancelled)
    percent = status_rules.percent(succeeded, succeeded + failed + cancelled)
    times = states.aggregate(first=Min("created_at"), last=Max("finished_at"))
    Run.objects.filter(pk=run.pk).update(
        status=status,
        success_count=succeeded,
        errored_count=failed,
        cancelled_count=cancelled,
        retried_count=counts[statuses.RETRY_CREATED],
        started_count=sum(counts.values()),
        current_step=succeeded,
        progress=status_rules.progress(status, percent),
        created_at=times["first"],
        started_at=times["first"],
        finished_at=times["last"],
        updated_at=timezone.now(),
        revision=run.revision + 1,
    )
