"""Why a run is not further on, in sentences for people."""

from collections import defaultdict
from datetime import datetime, timedelta

from django.utils import timezone

from runs.core import statuses
from runs.engine import answer
from runs.external import documents
from runs.models import AuditEntry, Cluster, Run, State

PATIENCE = timedelta(seconds=5)
MOST = 200  # states that are looked at
NAMED = 3


def why_waiting(run: Run, now: datetime | None = None) -> list[str]:
    """What an active run waits for, the most important first; nothing for one that has ended."""
    if run.ended:
        return []
    now = now or timezone.now()
    if run.version_id is None:
        if (
            run.status == statuses.PAUSED
            and not run.paused
            and run.checkpoints.exclude(ns=documents.NS).exists()
        ):
            return [
                f"An interrupt{f' in {run.current_node}' if run.current_node else ''} waits for an answer; the application resumes the thread with it."
            ]
        return ["An outside program drives this run; it goes on when that program reports."]
    states = list(
        State.objects.filter(run=run, status__in=statuses.UNFINISHED)
        .order_by("pk")
        .defer("inputs", "outputs")[:MOST]
    )
    said = [_paused(run)] if run.paused else []
    said += [
        f"{state.identifier} waits for an answer: {state.waiting_for.get('question') or 'no question'}"
        for state in states
        if _waits(state)
    ][:NAMED]
    said += _running([state for state in states if state.status == statuses.QUEUED], now)
    created = [
        (state.due_at, state)
        for state in states
        if state.status == statuses.CREATED and state.due_at is not None and not state.paused
    ]
    said += _later([(due, state) for due, state in created if due > now], now)
    said += _ready([state for due, state in created if due <= now - PATIENCE], now)
    return said or ["It is being worked on."]


def _waits(state: State) -> bool:
    return bool(state.status == statuses.CREATED and state.due_at is None and state.waiting_for)


def _paused(run: Run) -> str:
    paused = AuditEntry.objects.filter(run=run.pk, action="pause").order_by("-pk").first()
    return (
        f"It was paused by {paused.actor} at {paused.at:%H:%M} UTC; resume lets it go on."
        if paused
        else "It is paused; resume lets it go on."
    )


def _running(states: list[State], now: datetime) -> list[str]:
    said = []
    for state in states[:NAMED]:
        since = f" for {(now - state.started_at).total_seconds():.0f} s" if state.started_at else ""
        again = f", attempt {state.attempt}" if state.attempt > 1 else ""
        lost = (
            " Its lease is over; it is about to be given back."
            if state.lease_expires_at and state.lease_expires_at < now
            else ""
        )
        said.append(f"{state.identifier} runs{since} on {state.worker or 'a worker'}{again}.{lost}")
    return [*said, f"{len(states) - NAMED} more states run."] if len(states) > NAMED else said


def _later(states: list[tuple[datetime, State]], now: datetime) -> list[str]:
    said = []
    for due, state in sorted(states, key=lambda each: each[0])[:NAMED]:
        why = (
            f"is tried again (after {state.retry_count} failed tries)"
            if state.retry_count
            else "is due"
        )
        said.append(
            f"{state.identifier} {why} at {due:%H:%M:%S} UTC, in {(due - now).total_seconds():.0f} s."
        )
    return said


def _ready(states: list[State], now: datetime) -> list[str]:
    """States that anybody could take for a while already."""
    outside: dict[str, int] = defaultdict(int)
    own = [state for state in states if state.worker_namespace_id is None]
    for state in states:
        if state.worker_namespace_id is not None:
            outside[state.node] += 1
    said = [
        f"{_counted(count)} of node {node} ready and wait{'s' if count == 1 else ''} for an external worker to claim."
        for node, count in outside.items()
    ]
    if not own:
        return said[:NAMED]
    living = Cluster.objects.alive().filter(stopping=False).count()
    if not living:
        return [
            f"{_counted(len(own))} ready, but no cluster is running: start one with `manage.py up` or `manage.py supervise`.",
            *said,
        ]
    return [
        f"{_counted(len(own))} ready; the {living} running cluster{'s are' if living > 1 else ' is'} busy with other work.",
        *said,
    ]


def _counted(count: int) -> str:
    return "1 state is" if count == 1 else f"{count:,} states are"


def waiting_states(run: Run) -> list[State]:
    """The states that wait for a person."""
    return (
        list(State.objects.filter(answer.WAITS, run=run).order_by("pk")[:20])
        if run.waiting_count
        else []
    )
