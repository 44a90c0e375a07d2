"""Pages of runs and states in constant queries, whatever lies before them and however many there are."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Q, QuerySet

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.web.ttl_cache import cached
from runs.core import sql
from runs.models import LogLine, Run, State

EXACT_COUNT = (
    10_000  # a total up to this is counted at every call, a larger one once in some seconds
)
RUNS_AT_ONCE = 1000
MAX_CHOICES = 10_000
ROUNDS = 5
PIECE = 50
LARGEST_PAGE = 8 * 2**20  # characters of inputs and outputs
LIGHT = (
    "id", "run_id", "run__run_id", "run__graph__name", "parent", "identifier", "node", "path", "status", "attempt", "retry_count", "error",
    "created_at", "started_at", "finished_at",
)  # fmt: skip
COLUMNS = (*LIGHT, "inputs", "outputs")


@dataclass(slots=True)
class StateRow:
    """What lists show of a state, read without the model around it: `COLUMNS`, or `LIGHT` without the payloads."""

    id: uuid.UUID
    run_id: int
    thread: str  # the run's id on the wire
    graph_name: str | None
    parent: uuid.UUID | None
    identifier: str
    node: str
    path: str
    status: str
    attempt: int
    retry_count: int
    error: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    inputs: Any = None
    outputs: Any = None


def rows_of(states: QuerySet[State], columns: tuple[str, ...] = COLUMNS) -> list[StateRow]:
    return [StateRow(*values) for values in states.values_list(*columns)]


def page_of(
    states: QuerySet[State], limit: int, columns: tuple[str, ...] = COLUMNS
) -> tuple[list[StateRow], bool]:
    """Up to `limit` rows, fewer when their payloads are large, and whether there are more. Long pages are read piece by piece."""
    if limit <= PIECE or columns is LIGHT:
        found = rows_of(states[: limit + 1], columns)
        return found[:limit], len(found) > limit
    found, size = [], 0
    for values in states.values_list(*columns)[: limit + 1].iterator(chunk_size=PIECE):
        row = StateRow(*values)
        size += len(str(row.inputs)) + len(str(row.outputs))
        if len(found) == limit or (found and size > LARGEST_PAGE):
            return found, True
        found.append(row)
    return found, False


def total(runs: QuerySet[Run], key: str) -> int:
    """How many runs there are. A large number is kept for some seconds under its key, because counting reads an entry of the index for each."""
    return cached(("total", key), runs.count, lambda count: count > EXACT_COUNT)


def lines_up_to(lines: QuerySet[LogLine], most: int = EXACT_COUNT) -> int:
    """How many lines there are, counted no further than `most`."""
    return lines.order_by().values("pk")[:most].count()


def total_up_to(runs: QuerySet[Run], most: int, key: str) -> int:
    """How many there are, counted no further than `most`; kept for some seconds when they are many."""
    return cached(
        ("up to", key),
        lambda: runs.order_by().values("pk")[:most].count(),
        lambda count: count > EXACT_COUNT // 10,
    )


_REVISIONS = "SELECT id, revision FROM statemanager_runs_run WHERE {among} AND {seen} UNION ALL SELECT max(id), -1 FROM statemanager_runs_run WHERE {seen}"


def revisions(caller: Caller, pks: Iterable[int]) -> tuple[int, dict[int, int]]:
    """The last run there is, and the revisions of these runs, those that the caller sees; in one statement."""
    params = [sql.choices(pks)]
    seen = "true"
    if caller.namespaces is not None:
        seen = sql.among("namespace_id", "bigint")
        params += [sql.choices(sorted(caller.namespaces))] * 2
    rows = sql.run(_REVISIONS.format(among=sql.among("id", "bigint"), seen=seen), params)
    last = max((pk or 0 for pk, revision in rows if revision == -1), default=0)
    return last, {pk: revision for pk, revision in rows if revision != -1}


NEWEST = ("-created_at", "-id")


def run_page(
    runs: QuerySet[Run], first: int, length: int, ordering: Sequence[str] = NEWEST
) -> QuerySet[Run]:
    """The runs of a page; what lies before it is skipped within the index."""
    if not first:
        return runs.order_by(*ordering)[:length]
    return Run.objects.filter(
        pk__in=runs.order_by(*ordering).values("pk")[first : first + length]
    ).order_by(*ordering)


def by_status(runs: QuerySet[Run], key: str) -> dict[str, int]:
    """How many runs there are of each status; kept for some seconds when they are many."""

    def count() -> dict[str, int]:
        return dict(runs.order_by().values_list("status").annotate(Count("pk")))

    return cached(("status", key), count, lambda found: sum(found.values()) > EXACT_COUNT)


_SKIP = """
    WITH RECURSIVE found (value) AS (
        SELECT min({column}) FROM statemanager_runs_run WHERE {column} > '' AND {{seen}}
        UNION ALL
        SELECT (SELECT min({column}) FROM statemanager_runs_run WHERE {column} > found.value AND {{seen}}) FROM found WHERE found.value IS NOT NULL
    ) SELECT value FROM found WHERE value IS NOT NULL LIMIT {limit}
"""
_DISTINCT = {
    column: _SKIP.format(column=column, limit=MAX_CHOICES) for column in ("username", "workspace")
}


def distinct(caller: Caller, column: str) -> list[str]:
    """The different usernames or workspaces of the runs that the caller sees, sorted, without the empty one.

    The index is entered once for each value, however many runs have it.
    """
    statement = _DISTINCT[column]
    if caller.namespaces is None:
        return [row[0] for row in sql.run(statement.format(seen="true"))]
    seen = sql.choices(sorted(caller.namespaces))
    return [
        row[0]
        for row in sql.run(statement.format(seen=sql.among("namespace_id", "bigint")), [seen, seen])
    ]


def states_of_runs(
    runs: QuerySet[Run], states: QuerySet[State], filtered: bool, after: str, limit: int
) -> tuple[list[StateRow], str | None]:
    """Up to `limit` states, those of the newest run first, each run's in the order in which they were made, and the cursor of the next page.

    With `filtered` the runs' kept counts say nothing about how many of their states match; then a page may be short before the end.
    """
    runs = runs.order_by("-created_at", "-id")
    place = _place(after)
    if (
        not place and not filtered
    ):  # every run has a state, so the newest ones are enough for a page
        found, more = page_of(
            _ordered(states.filter(run__in=runs.values("pk")[: limit + 1])), limit
        )
        return found, cursor_after(found[-1]) if more else None
    for _ in range(ROUNDS):
        chosen, more = _runs(runs, place, filtered, limit)
        begun = place[0] if place and place[1] and place[0] in chosen else None
        first = Q(run=begun, id__gt=place[1]) if place and begun else Q(pk=None)
        wanted = states.filter(first | Q(run__in=[pk for pk in chosen if pk != begun]))
        found, cut = page_of(_ordered(wanted), limit)
        if cut:
            return found, cursor_after(found[-1])
        if not more:
            return found, None
        place = (chosen[-1], None)
        if found:
            break
    return found, f"{place[0]}." if place else None


def _ordered(states: QuerySet[State]) -> QuerySet[State]:
    return states.order_by("-run__created_at", "-run_id", "id")


def states_of_run(
    run: Run, states: QuerySet[State], after: str, limit: int, columns: tuple[str, ...] = COLUMNS
) -> tuple[list[StateRow], str | None]:
    """The same for one run."""
    place = _place(after)
    states = states.filter(run=run).order_by("id")
    found, more = page_of(
        states.filter(id__gt=place[1]) if place and place[1] else states, limit, columns
    )
    return found, cursor_after(found[-1]) if more else None


def cursor_after(state: StateRow) -> str:
    return f"{state.run_id}.{state.id.hex}"


def _place(after: str) -> tuple[int, Any] | None:
    run, dot, state = after.partition(".")
    if not after:
        return None
    if not (
        dot
        and run.isascii()
        and run.isdigit()
        and len(run) < 19
        and (not state or (len(state) == 32 and set(state) <= set("0123456789abcdef")))
    ):
        raise errors.Malformed("after is the `next` of a former page.")
    return int(run), state or None


def _runs(
    runs: QuerySet[Run], place: tuple[int, Any] | None, filtered: bool, limit: int
) -> tuple[list[int], bool]:
    """The runs that may fill a page, and whether there are more of them."""
    if place:
        at = runs.filter(pk=place[0]).values_list("created_at", flat=True).first()
        if at is None:
            raise errors.Malformed("The run that `after` names is gone; begin anew.")
        runs = runs.filter(_behind(at, place))
    enough = RUNS_AT_ONCE if filtered else min(limit + 1, RUNS_AT_ONCE)  # every run has a state
    rows = list(runs.values_list("pk", flat=True)[: enough + 1])
    return rows[:enough], len(rows) > enough


def _behind(at: datetime, place: tuple[int, Any]) -> Q:
    """The runs that come after this place, its own included while states of it are left."""
    own = Q(id__lte=place[0]) if place[1] else Q(id__lt=place[0])
    return Q(created_at__lt=at) | Q(created_at=at) & own
