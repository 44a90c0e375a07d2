"""Pages of runs and states. What a page costs does not depend on its number or the table's size."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, OrderBy, Q, QuerySet

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.types import Json
from graphs.web.ttl_cache import cached
from runs.core import sql
from runs.models import LogLine, Run, State

PAGE_SIZES = (25, 50, 100, 200)  # that the list offers; any number up to the largest is accepted
DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = PAGE_SIZES[-1]
Ordering = tuple[str | OrderBy, ...]
NEWEST: Ordering = ("-created_at", "-id")
EXACT_COUNT = 10_000  # a number up to this is counted at every call, a larger one is cached
MAX_CHOICES = 10_000  # usernames or workspaces that the API lists
RUNS_AT_ONCE = 1000
ROUNDS = 5  # groups of runs that are searched for the states of one page
ROWS_AT_ONCE = 50
MAX_PAGE_LENGTH = 8 * 2**20  # characters of inputs and outputs
LIGHT = (
    "id",
    "run_id",
    "run__run_id",
    "run__graph__name",
    "parent",
    "identifier",
    "node",
    "path",
    "status",
    "attempt",
    "retry_count",
    "error",
    "created_at",
    "started_at",
    "finished_at",
)
COLUMNS = (*LIGHT, "inputs", "outputs")


@dataclass(slots=True)
class StateRow:
    """What lists show of a state: the values of COLUMNS, or of LIGHT without the payloads.

    Making a model instance for each row would take most of the time of a long page.
    """

    id: uuid.UUID
    run_id: int
    thread: str  # the run id in the APIs
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
    inputs: Json = None
    outputs: Json = None


StatePage = tuple[list[StateRow], str | None]  # the states, and the cursor of the next page


# --- how many there are ---------------------------------------------------------------------------


def total(runs: QuerySet[Run], key: str) -> int:
    """The number of runs. A large number is cached for some seconds under the key.

    Counting reads an index entry of every run.
    """
    return cached(("total", key), runs.count, lambda count: count > EXACT_COUNT)


def total_up_to(runs: QuerySet[Run], maximum: int, key: str) -> int:
    """The number of runs, counted up to the maximum; cached for some seconds if it is large."""
    return cached(
        ("up to", key),
        lambda: runs.order_by().values("pk")[:maximum].count(),
        lambda count: count > EXACT_COUNT // 10,
    )


def lines_up_to(lines: QuerySet[LogLine], maximum: int = EXACT_COUNT) -> int:
    """The number of log lines, counted up to the maximum."""
    return lines.order_by().values("pk")[:maximum].count()


def by_status(runs: QuerySet[Run], key: str) -> dict[str, int]:
    """The number of runs in each status; cached for some seconds if there are many."""

    def count() -> dict[str, int]:
        return dict(runs.order_by().values_list("status").annotate(Count("pk")))

    return cached(("status", key), count, lambda counts: sum(counts.values()) > EXACT_COUNT)


# --- runs -----------------------------------------------------------------------------------------


def run_page(
    runs: QuerySet[Run], offset: int, length: int, ordering: Ordering = NEWEST
) -> QuerySet[Run]:
    """The runs of a page.

    The rows before the offset are skipped within the index: only the ids of the page's runs come
    from the inner query, and only these runs are read from the table.
    """
    ordered = runs.order_by(*ordering)
    if not offset:
        return ordered[:length]
    pks = ordered.values("pk")[offset : offset + length]
    return Run.objects.filter(pk__in=pks).order_by(*ordering)


# Reads the revisions of some runs, and the last run's id with the revision -1. A page that polls
# needs both, and gets them in one round trip. Each half is an access by primary key; for a caller
# of some namespaces, max(id) walks the primary key backwards to the first visible run.
_REVISIONS = """
    SELECT id, revision FROM statemanager_runs_run WHERE {among} AND {visible}
    UNION ALL
    SELECT max(id), -1 FROM statemanager_runs_run WHERE {visible}
"""


def revisions(caller: Caller, pks: Iterable[int]) -> tuple[int, dict[int, int]]:
    """The pk of the last run, and the revisions of these runs, as far as the caller sees them."""
    visible, params = _visible(caller)
    statement = _REVISIONS.format(among=sql.among("id", "bigint"), visible=visible)
    rows = sql.run(statement, [sql.choices(pks), *params, *params])
    last = max((pk or 0 for pk, revision in rows if revision == -1), default=0)
    return last, {pk: revision for pk, revision in rows if revision != -1}


# Reads the distinct values of a column: from each value it skips to the next larger one. An index
# begins with the column, so each value costs one descent into the index, however many runs have it.
# SELECT DISTINCT would read the entries of all runs.
_DISTINCT = """
    WITH RECURSIVE found (value) AS (
        SELECT min({column}) FROM statemanager_runs_run
        WHERE {column} > '' AND {column} >= %s AND {visible}
        UNION ALL
        SELECT (
            SELECT min({column}) FROM statemanager_runs_run
            WHERE {column} > found.value AND {visible}
        )
        FROM found WHERE found.value IS NOT NULL
    )
    SELECT value FROM found WHERE value IS NOT NULL LIMIT %s
"""


def distinct_statement(column: str, visible: str) -> str:
    """The statement that reads the distinct values of `username` or `workspace`."""
    assert column in ("username", "workspace")
    return _DISTINCT.format(column=column, visible=visible)


def distinct(
    caller: Caller, column: str, limit: int = MAX_CHOICES, beginning: str = ""
) -> list[str]:
    """The first usernames or workspaces of the runs that the caller sees, sorted, not empty.

    With a `beginning`, only those that begin with it.
    """
    visible, params = _visible(caller)
    statement = distinct_statement(column, visible)
    rows = sql.run(statement, [beginning, *params, *params, limit])
    return [value for (value,) in rows if value.startswith(beginning)]


def _visible(caller: Caller) -> tuple[str, list[object]]:
    """The SQL condition for the runs that the caller sees, and its parameters."""
    if caller.namespaces is None:
        return "true", []
    namespaces = sql.choices(sorted(caller.namespaces))
    return sql.among("namespace_id", "bigint"), [namespaces]


# --- states ---------------------------------------------------------------------------------------


def rows_of(states: QuerySet[State], columns: tuple[str, ...] = COLUMNS) -> list[StateRow]:
    return [StateRow(*values) for values in states.values_list(*columns)]


def page_of(
    states: QuerySet[State], limit: int, columns: tuple[str, ...] = COLUMNS
) -> tuple[list[StateRow], bool]:
    """Up to `limit` rows, and whether there are more.

    A page has fewer rows if their payloads are large. Long pages are read in parts, so that no more
    payloads are in memory than the page can have.
    """
    if limit <= ROWS_AT_ONCE or columns is LIGHT:
        rows = rows_of(states[: limit + 1], columns)
        return rows[:limit], len(rows) > limit
    rows = []
    length = 0
    for values in states.values_list(*columns)[: limit + 1].iterator(chunk_size=ROWS_AT_ONCE):
        row = StateRow(*values)
        length += len(str(row.inputs)) + len(str(row.outputs))
        too_long = bool(rows) and length > MAX_PAGE_LENGTH
        if too_long or len(rows) == limit:
            return rows, True
        rows.append(row)
    return rows, False


@dataclass(frozen=True)
class Place:
    """Where a page of states begins: after this state, or after all states of the run."""

    run_pk: int
    state: str = ""

    @classmethod
    def of_cursor(cls, cursor: str) -> "Place | None":
        """Raises Malformed if the text is not a cursor."""
        if not cursor:
            return None
        run, dot, state = cursor.partition(".")
        is_run = run.isascii() and run.isdigit() and len(run) < 19
        is_state = not state or (len(state) == 32 and set(state) <= set("0123456789abcdef"))
        if not (dot and is_run and is_state):
            raise errors.Malformed("`after` must be the `next` of an earlier page.")
        return cls(int(run), state)

    @property
    def cursor(self) -> str:
        return f"{self.run_pk}.{self.state}"


def cursor_after(row: StateRow) -> str:
    return Place(row.run_id, row.id.hex).cursor


def states_of_run(
    run: Run, states: QuerySet[State], after: str, limit: int, columns: tuple[str, ...] = COLUMNS
) -> StatePage:
    """Up to `limit` states of a run in the order in which they were created.

    Raises Malformed if `after` is not a cursor.
    """
    place = Place.of_cursor(after)
    states = states.filter(run=run).order_by("id")
    if place and place.state:
        states = states.filter(id__gt=place.state)
    rows, more = page_of(states, limit, columns)
    return rows, cursor_after(rows[-1]) if more else None


def states_of_runs(
    runs: QuerySet[Run], states: QuerySet[State], filtered: bool, after: str, limit: int
) -> StatePage:
    """Up to `limit` states: the newest run first, the states of a run in the order of creation.

    `filtered` says that `states` are not all states of their runs. Then nothing is known about how
    many states of a run match, and a page may be short although more follow. Raises Malformed if
    `after` is not a cursor, or if the run that it names is gone.
    """
    runs = runs.order_by(*NEWEST)
    place = Place.of_cursor(after)
    if not place and not filtered:
        # Every run has a state, so the newest `limit` runs have enough states for a page.
        newest = runs.values("pk")[: limit + 1]
        rows, more = page_of(_ordered(states.filter(run__in=newest)), limit)
        return rows, cursor_after(rows[-1]) if more else None
    for _ in range(ROUNDS):
        pks, more_runs = _next_runs(runs, place, filtered, limit)
        rows, more = page_of(_ordered(_states_after(states, pks, place)), limit)
        if more:
            return rows, cursor_after(rows[-1])
        if not more_runs:
            return rows, None
        place = Place(pks[-1])
        if rows:
            break
    return rows, place.cursor if place else None


def _ordered(states: QuerySet[State]) -> QuerySet[State]:
    return states.order_by("-run__created_at", "-run_id", "id")


def _states_after(
    states: QuerySet[State], pks: Sequence[int], place: Place | None
) -> QuerySet[State]:
    """The states of these runs; of the run in which the last page ended, those that follow."""
    if place is None or not place.state or place.run_pk not in pks:
        return states.filter(run__in=pks)
    begun = Q(run=place.run_pk, id__gt=place.state)
    return states.filter(begun | Q(run__in=[pk for pk in pks if pk != place.run_pk]))


def _next_runs(
    runs: QuerySet[Run], place: Place | None, filtered: bool, limit: int
) -> tuple[list[int], bool]:
    """The runs whose states may fill a page, and whether there are more runs."""
    if place:
        created_at = runs.filter(pk=place.run_pk).values_list("created_at", flat=True).first()
        if created_at is None:
            raise errors.Malformed(
                "The run that `after` names is gone; read the list again from its first page."
            )
        runs = runs.filter(_from_place(created_at, place))
    enough = RUNS_AT_ONCE if filtered else min(limit + 1, RUNS_AT_ONCE)  # every run has a state
    pks = list(runs.values_list("pk", flat=True)[: enough + 1])
    return pks[:enough], len(pks) > enough


def _from_place(created_at: datetime, place: Place) -> Q:
    """The runs after this place; its own run too, if the page ended among its states."""
    same_time = Q(id__lte=place.run_pk) if place.state else Q(id__lt=place.run_pk)
    return Q(created_at__lt=created_at) | Q(created_at=created_at) & same_time
