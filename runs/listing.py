"""Pages of runs and states in constant queries, whatever lies before them and however many there are."""

from datetime import datetime
from time import monotonic
from typing import Any

from django.db.models import F, Q, QuerySet

from graphs import errors
from runs.models import Run, State

EXACT_COUNT = 10_000  # a total up to this is counted at every call, a larger one once in some seconds
COUNTED_SECONDS = 10.0
RUNS_AT_ONCE = 1000
ROUNDS = 5
COLUMNS = (
    "id", "parent", "created_at", "retry_count", "identifier", "node", "path", "inputs", "status", "attempt", "started_at", "finished_at", "outputs",
    "error", "run__run_id", "run__graph__name",
)  # fmt: skip
_counts: dict[str, tuple[float, int]] = {}


def total(runs: QuerySet[Run], key: str) -> int:
    """How many runs there are. A large number is kept for some seconds under its key, because counting reads an entry of the index for each."""
    since, count = _counts.get(key, (0.0, 0))
    if count > EXACT_COUNT and monotonic() - since < COUNTED_SECONDS:
        return count
    if len(_counts) > 500:
        _counts.clear()
    count = runs.count()
    _counts[key] = monotonic(), count
    return count


def forget() -> None:
    _counts.clear()


def states_of_runs(runs: QuerySet[Run], states: QuerySet[State], filtered: bool, after: str, limit: int) -> tuple[list[State], str | None]:
    """Up to `limit` states, those of the newest run first, each run's in the order in which they were made, and the cursor of the next page.

    With `filtered` the runs' kept counts say nothing about how many of their states match; then a page may be short before the end.
    """
    runs = runs.order_by("-created_at", "-id")
    place = _place(after)
    for _ in range(ROUNDS):
        chosen, more = _runs(runs, place, filtered, limit)
        first = Q(run=place[0], id__gt=place[1]) if place and place[1] else Q(pk=None)
        wanted = states.filter(first | Q(run__in=[pk for pk, _ in chosen if not (place and place[1] and pk == place[0])]))
        found = list(_narrow(wanted).order_by("-run__created_at", "-run_id", "id")[: limit + 1])
        if len(found) > limit:
            return found[:limit], _cursor(found[limit - 1])
        if not more:
            return found, None
        place = (chosen[-1][0], None)
        if found:
            return found, f"{place[0]}."
    return [], f"{place[0]}." if place else None


def states_of_run(run: Run, states: QuerySet[State], after: str, limit: int) -> tuple[list[State], str | None]:
    """The same for one run."""
    place = _place(after)
    states = _narrow(states.filter(run=run)).order_by("id")
    found = list((states.filter(id__gt=place[1]) if place and place[1] else states)[: limit + 1])
    return found[:limit], _cursor(found[limit - 1]) if len(found) > limit else None


def _narrow(states: QuerySet[State]) -> QuerySet[State]:
    """With the few columns that lists show, unless the caller chose others."""
    found = states.select_related("run__graph")
    return found if states.query.deferred_loading[0] else found.only(*COLUMNS)


def cursor_after(state: State) -> str:
    return _cursor(state)


def _cursor(state: State) -> str:
    return f"{state.run_id}.{state.pk.hex}"


def _place(after: str) -> tuple[int, Any] | None:
    run, dot, state = after.partition(".")
    if not after:
        return None
    if not (dot and run.isascii() and run.isdigit() and len(run) < 19 and (not state or (len(state) == 32 and set(state) <= set("0123456789abcdef")))):
        raise errors.Malformed("after is the `next` of a former page.")
    return int(run), state or None


def _runs(runs: QuerySet[Run], place: tuple[int, Any] | None, filtered: bool, limit: int) -> tuple[list[tuple[int, int]], bool]:
    """(run, how many states it has) of the runs that may fill a page, and whether there are more of them."""
    if place:
        at = Run.objects.filter(pk=place[0]).values_list("created_at", flat=True).first()
        if at is None:
            raise errors.Malformed("The run that `after` names is gone; begin anew.")
        runs = runs.filter(_behind(at, place))
    known = F("success_count") + F("pending_count") + F("errored_count") + F("cancelled_count") + F("retried_count")
    chosen: list[tuple[int, int]] = []
    room = limit
    enough = RUNS_AT_ONCE if filtered else min(limit + 1, RUNS_AT_ONCE)  # every run has a state
    rows = list(runs.values_list("pk", known)[: enough + 1])
    for pk, count in rows[:enough]:
        chosen.append((pk, count))
        room -= 0 if filtered or (place and pk == place[0]) else count
        if room < 0:
            break
    return chosen, len(chosen) < len(rows)


def _behind(at: datetime, place: tuple[int, Any]) -> Q:
    """The runs that come after this place, its own included while states of it are left."""
    own = Q(id__lte=place[0]) if place[1] else Q(id__lt=place[0])
    return Q(created_at__lt=at) | Q(created_at=at) & own
