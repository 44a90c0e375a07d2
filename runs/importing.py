"""Reading the states of an Exosphere system: an export of its `State` collection, one JSON document a line (mongoexport).

Rows that lack a run id (the system had none at first) are grouped, for each graph, under a default one. Imported runs are history: a state that
was not finished is CANCELLED here. Ids are kept: 24 hexadecimal digits become the end of ours, and `/v0` takes them in their own form, too.
"""

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import Max, Min
from django.utils import timezone

from graphs import errors, names, payloads
from graphs.models import Graph, Namespace
from runs import statuses
from runs.models import Run, State

BATCH = 500
MAX_PROBLEMS = 20
_WORDS = {word: word for word in statuses.STATE_STATUSES} | {"EXECUTED": statuses.SUCCESS, "NEXT_CREATED": statuses.SUCCESS}
Json = dict[str, Any]


@dataclass
class Imported:
    """What an import did."""

    read: int = 0
    states: int = 0
    runs: int = 0
    without_run_id: int = 0


@dataclass
class _Importer:
    default_run_id: str
    only: str
    done: Imported = field(default_factory=Imported)
    runs: dict[tuple[str, str, str], Run] = field(default_factory=dict)
    graphs: dict[tuple[str, str], Graph] = field(default_factory=dict)
    changed: dict[int, Run] = field(default_factory=dict)

    def store(self, rows: Iterable[tuple[int, Json]]) -> None:
        batch: list[State] = []
        for _, row in rows:
            if self.only and row["namespace_name"] != self.only:
                continue
            batch.append(self._state(row))
            if len(batch) == BATCH:
                self._insert(batch)
                batch = []
        self._insert(batch)

    def _state(self, row: Json) -> State:
        self.done.read += 1
        word = _WORDS[row["status"]]
        unfinished = word in statuses.UNFINISHED
        made, changed = _time(row.get("created_at")), _time(row.get("updated_at"))
        parents = [_id(each) for each in (row.get("parents") or {}).values()]
        pruned = word == statuses.PRUNED and row.get("data")
        return State(
            pk=_id(row["_id"]),
            run=self._run(row),
            parent=parents[-1] if parents else None,
            created_at=made,
            retry_count=row.get("retry_count") or 0,
            identifier=row["identifier"],
            node=row["node_name"],
            inputs=row.get("inputs") or {},
            outputs=row["data"] if pruned else row.get("outputs") or {},
            error=row.get("error") or (f"It was {row['status']} when it was exported." if unfinished else ""),
            status=statuses.CANCELLED if unfinished else word,
            attempt=0 if row["status"] == statuses.CREATED else 1,
            due_at=None,
            started_at=made,
            finished_at=max(made, changed),
        )

    def _run(self, row: Json) -> Run:
        run_id = row.get("run_id") or f"{self.default_run_id}-{row['graph_name']}"[:200]
        self.done.without_run_id += not row.get("run_id")
        key = (row["namespace_name"], row["graph_name"], run_id)
        if key not in self.runs:
            self.runs[key] = self._stored_run(self._graph(*key[:2]), run_id)
        return self.runs[key]

    def _stored_run(self, graph: Graph, run_id: str) -> Run:
        """The run with this id; if that is another graph's, the one whose id names the graph, too."""
        for each in (run_id, f"{run_id}-{graph.name}"[:200]):
            values = {"graph": graph, "trigger": Run.Trigger.IMPORT, "workspace": graph.namespace.name, "status": statuses.RUN_CANCELLED}
            run, made = Run.objects.get_or_create(namespace=graph.namespace, run_id=each, defaults={**values, "finished_at": timezone.now()})
            if run.graph_id == graph.pk and run.trigger == Run.Trigger.IMPORT:
                self.done.runs += made
                return run
        raise errors.Conflict(f"The run id {run_id!r} of namespace {graph.namespace.name!r} is taken by a run that was not imported.")

    def _graph(self, namespace: str, name: str) -> Graph:
        if (namespace, name) not in self.graphs:
            found, _ = Namespace.objects.get_or_create(name=namespace)
            self.graphs[namespace, name], _ = Graph.objects.get_or_create(namespace=found, name=name)
        return self.graphs[namespace, name]

    def _insert(self, batch: list[State]) -> None:
        there = set(State.objects.filter(pk__in=[state.pk for state in batch]).values_list("pk", flat=True))
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


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    if hasattr(lines, "seek"):
        lines.seek(0)
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, json.loads(line)


def _problems(lines: Iterable[str]) -> Iterator[str]:
    if hasattr(lines, "seek"):
        lines.seek(0)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if line.lstrip().startswith("["):
            yield f"line {number}: this looks like a JSON array; export one document a line (mongoexport without --jsonArray)"
            return
        try:
            _check(json.loads(line))
        except json.JSONDecodeError as error:
            yield f"line {number} is no JSON: {error}"
        except (ValueError, KeyError, TypeError, errors.Malformed, RecursionError) as error:
            yield f"line {number}: {error if not isinstance(error, KeyError) else f'{error} is missing'}"[:500]


def _check(row: Any) -> None:
    """Raises ValueError, KeyError, TypeError and Malformed."""
    if not isinstance(row, dict):
        raise TypeError("a row is an object")
    _id(row["_id"])
    for each in (row.get("parents") or {}).values():
        _id(each)
    for name in ("created_at", "updated_at"):
        _time(row.get(name))
    names.checked("namespace", row["namespace_name"])
    names.checked("graph", row["graph_name"])
    if row.get("run_id"):
        names.checked("run id", row["run_id"])
    if row["status"] not in _WORDS:
        raise ValueError(f"the status {row['status']!r} is unknown")
    for name in ("identifier", "node_name"):
        if not isinstance(row[name], str) or not 0 < len(row[name]) <= 200:
            raise ValueError(f"{name} is a text of 1 to 200 characters")
    for name in ("inputs", "outputs", "data"):
        payloads.dump(row.get(name))


def _id(value: Any) -> uuid.UUID:
    """An ObjectId (24 hexadecimal digits, plain or as extended JSON) or a UUID."""
    text = value.get("$oid", "") if isinstance(value, dict) else value
    if not isinstance(text, str) or len(text) not in (24, 32, 36):
        raise ValueError(f"{value!r:.80} is no id")
    return uuid.UUID(f"{'0' * 8}{text}" if len(text) == 24 else text)


def _time(value: Any) -> datetime:
    """ISO 8601 or milliseconds, plain or as extended JSON; without a zone it is UTC. Nothing at all is now."""
    value = value.get("$date") if isinstance(value, dict) else value
    value = value.get("$numberLong") if isinstance(value, dict) else value
    if value is None:
        return timezone.now()
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        return datetime.fromtimestamp(int(value) / 1000, UTC)
    found = datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _count(run: Run) -> None:
    """Write the run's counts, status and times from its states."""
    states = State.objects.filter(run=run)
    count = Counter(states.summary())
    good, failed = count[statuses.SUCCESS] + count[statuses.PRUNED], sum(count[word] for word in statuses.FAILED_STATES)
    times = states.aggregate(first=Min("created_at"), last=Max("finished_at"))
    bad = failed + count[statuses.CANCELLED]
    status = statuses.COMPLETED if not bad else statuses.PARTIAL if good else statuses.FAILED
    Run.objects.filter(pk=run.pk).update(
        status=status,
        success_count=good,
        errored_count=failed,
        cancelled_count=count[statuses.CANCELLED],
        retried_count=count[statuses.RETRY_CREATED],
        started_count=sum(count.values()),
        current_step=good,
        progress=100 if status == statuses.COMPLETED else min(99, 100 * good // (good + bad)),
        created_at=times["first"],
        started_at=times["first"],
        finished_at=times["last"],
        updated_at=timezone.now(),
        revision=run.revision + 1,
    )
