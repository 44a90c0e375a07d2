"""What the engine did with a run, as a log of its own.

Nothing is stored for it: the events follow from the rows of states, from what the run logged when
leases were lost, and from the audit trail.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from runs.core import statuses
from runs.models import AuditEntry, QueueEntry, Run, State
from runs.queries.attempts import LostLease, lost_leases

STATES = 100  # whose events are on a page
ENTRIES = 100  # of the audit trail
ONE_COMMIT = timedelta(seconds=1)
# Actions of people that change what the engine does.
ACTIONS = (
    "start",
    "pause",
    "resume",
    "cancel",
    "retry",
    "answer",
    "set_status",
    "rerun",
    "release",
)
ENDS = {
    statuses.SUCCESS: "succeeded",
    statuses.PRUNED: "ended its branch",
    statuses.RETRY_CREATED: "failed and was retried",
    statuses.ERRORED: "failed for good",
    statuses.NEXT_CREATED_ERROR: "succeeded, but nothing could follow",
    statuses.TIMEDOUT: "was given up: its worker was lost too often",
    statuses.CANCELLED: "was cancelled",
}
FIELDS = (
    "identifier",
    "path",
    "status",
    "attempt",
    "lost_leases",
    "retry_count",
    "worker",
    "created_at",
    "started_at",
    "finished_at",
)


@dataclass(frozen=True)
class Event:
    """`state` is None for what happened to the run as a whole.

    Events of one moment are in the order of their `rank`.
    """

    at: datetime
    what: str
    state: State | None = None
    rank: int = 1


def events_of(run: Run, after: UUID | None = None) -> tuple[list[Event], UUID | None]:
    """The events of a page of states, oldest first, and the last state if more follow.

    Events of the run are on its first page.
    """
    matching = run.states.order_by("pk").only(*FIELDS)
    if after:
        matching = matching.filter(pk__gt=after)
    page = list(matching[: STATES + 1])
    states = page[:STATES]
    lost = lost_leases(run, [state.pk for state in states if state.lost_leases])
    events = [] if after else list(_of_run(run, states))
    for state in states:
        events += _of_state(state, lost.get(state.pk, ()))
    events.sort(key=lambda event: (event.at, event.rank))
    return events, states[-1].pk if len(page) > STATES else None


def _of_run(run: Run, states: Sequence[State]) -> Iterator[Event]:
    entries = AuditEntry.objects.filter(run=run.pk, action__in=ACTIONS).order_by("-pk")
    for entry in entries[:ENTRIES]:
        yield Event(entry.at, f"{entry.action.replace('_', ' ')}, by {entry.actor}")
    entry = QueueEntry.objects.filter(run=run).exclude(claimed_at=None).first()
    if entry is not None and entry.claimed_at:
        yield Event(entry.claimed_at, f"claimed by {entry.holder}, claim {entry.claim}")
    if run.started_at:
        yield Event(run.started_at, "the run began")
    if run.finished_at:
        yield Event(_end_of(run.finished_at, states), f"the run ended: {run.status}", rank=2)


def _end_of(end: datetime, states: Sequence[State]) -> datetime:
    """When the run ended: with its last state, which the same transaction stored a moment later."""
    at_once = [state.finished_at for state in states if state.finished_at]
    return max([at for at in at_once if end < at < end + ONE_COMMIT], default=end)


def _of_state(state: State, lost: Sequence[LostLease]) -> Iterator[Event]:
    retry = f", retry {state.retry_count}" if state.retry_count else ""
    yield Event(state.created_at, f"created{retry}", state)
    for lease in lost:
        if lease.since:
            yield Event(lease.since, _claimed(lease.worker, lease.attempt), state)
        yield Event(lease.found_at, f"lost its worker in attempt {lease.attempt}", state)
    if state.started_at:
        yield Event(state.started_at, _claimed(state.worker, state.attempt), state)
    if state.finished_at:
        yield Event(state.finished_at, ENDS[state.status], state)


def _claimed(worker: str, attempt: int) -> str:
    by = f" by {worker}" if worker else ""
    return f"claimed{by}, attempt {attempt}"
