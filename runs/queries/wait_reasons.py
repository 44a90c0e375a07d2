"""Why a run does not proceed, in sentences for its page."""

from collections import Counter
from datetime import datetime, timedelta

from graphs.web.formats import exact, length
from runs.core import sql, statuses
from runs.engine import answer, concurrency
from runs.external import documents
from runs.models import AuditEntry, Cluster, QueueEntry, Run, RunSlot, State
from runs.queries import drivers, questions

READY_FOR = timedelta(seconds=5)  # after which it is worth saying that a state is ready
MAX_STATES = 200
MAX_SENTENCES = 3  # of each kind
MAX_WAITING_STATES = 20


def why_waiting(run: Run, payloads: bool = True, now: datetime | None = None) -> list[str]:
    """What an active run waits for, the most important first. Empty if the run has ended.

    Without `payloads`, questions to people are left out.
    """
    if run.ended:
        return []
    now = now or sql.clock()
    if run.version_id is None:
        return [_in_queue(run, now) or _external(run)]
    unfinished = State.objects.filter(run=run, status__in=statuses.UNFINISHED)
    states = list(unfinished.order_by("pk").defer("inputs", "outputs")[:MAX_STATES])
    created = [state for state in states if state.status == statuses.CREATED]
    due = [(state.due_at, state) for state in created if state.due_at and not state.paused]

    sentences = [_paused(run)] if run.paused else []
    sentences += _for_slot(run, payloads, now)
    sentences += _questions(created, payloads)
    sentences += _running([state for state in states if state.status == statuses.QUEUED], now)
    sentences += _delayed([(due_at, state) for due_at, state in due if due_at > now], now)
    sentences += _ready([state for due_at, state in due if due_at <= now - READY_FOR], now)
    return sentences or ["Its states are about to be processed."]


def waiting_states(run: Run) -> list[State]:
    """The states that wait for an answer."""
    if not run.waiting_count:
        return []
    states = State.objects.filter(answer.WAITS, run=run)
    return list(states.order_by("pk")[:MAX_WAITING_STATES])


def _in_queue(run: Run, now: datetime) -> str:
    """Who holds an external run, or since when it waits in the queue; "" if it isn't there."""
    entry = QueueEntry.objects.filter(run=run, available_at__isnull=False).first()
    if entry is None or entry.available_at is None:
        return ""
    if entry.is_held(now):
        since = f" since {exact(entry.claimed_at)}" if entry.claimed_at else ""
        return (
            f"{entry.holder} has held this run{since};"
            f" its lease ends at {exact(entry.available_at)}."
        )
    if run.status == statuses.PAUSED:
        return ""
    if entry.available_at > now:
        return f"A program can claim it from {exact(entry.available_at)} on."
    lost = f"The lease of {entry.holder} is over. " if entry.holder else ""
    return f"{lost}It has waited since {exact(entry.available_at)} for a program to claim it."


def _external(run: Run) -> str:
    interrupted = (
        run.status == statuses.PAUSED
        and not run.paused
        and run.checkpoints.exclude(ns=documents.NS).exists()
    )
    if drivers.has_driver(run):
        return drivers.sentence(run)
    if not interrupted:
        return "An outside program drives this run; it continues when that program reports."
    place = f" in {run.current_node}" if run.current_node else ""
    return (
        f"An interrupt{place} waits for an answer; "
        "the application resumes the thread when it gives one."
    )


def _paused(run: Run) -> str:
    pause = AuditEntry.objects.filter(run=run.pk, action="pause").order_by("-pk").first()
    by = f" by {pause.actor} at {exact(pause.at)}" if pause else ""
    return f"It was paused{by}. Resume it to let it continue."


def _for_slot(run: Run, payloads: bool, now: datetime) -> list[str]:
    """The runs that hold the slots that the run waits for. The key may come from its inputs."""
    slot = RunSlot.objects.filter(run=run, taken_at=None).first()
    if slot is None:
        return []
    if slot.available_at > now:
        return [f"It is due at {exact(slot.available_at)}, in {length(slot.available_at - now)}."]
    runs = "1 run" if slot.capacity == 1 else f"{slot.capacity:,} runs"
    key = f" with the key {slot.key!r}" if payloads and slot.key else ""
    holders = [holder.run_id for holder in concurrency.holders(slot.queue, MAX_SENTENCES + 1)]
    named = ", ".join(holders[:MAX_SENTENCES])
    more = ", and more" if len(holders) > MAX_SENTENCES else ""
    active = f"; active now: {named}{more}" if named else ""
    return [f"It waits for a slot: {runs} of the graph{key} may be active at once{active}."]


def _questions(created: list[State], payloads: bool) -> list[str]:
    waiting = [state for state in created if state.due_at is None and state.waiting_for]
    shown = waiting[:MAX_SENTENCES]
    times = questions.answer_by(shown)
    sentences = []
    for state in shown:
        question = f": {state.waiting_for.get('question') or 'no question'}" if payloads else "."
        fate = questions.fate(state, times.get(state.pk))
        sentences.append(f"{state.identifier} waits for an answer{question} {fate}".rstrip())
    return sentences


def _running(states: list[State], now: datetime) -> list[str]:
    sentences = []
    for state in states[:MAX_SENTENCES]:
        duration = ""
        if state.started_at:
            duration = f" for {length(now - state.started_at)}"
        attempt = f", attempt {state.attempt}" if state.attempt > 1 else ""
        worker = state.worker or "a worker"
        sentence = f"{state.identifier} runs{duration} on {worker}{attempt}."
        if state.lease_expires_at and state.lease_expires_at < now:
            sentence += " Its lease is over; another worker is about to take it."
        sentences.append(sentence)
    more = len(states) - MAX_SENTENCES
    if more > 0:
        sentences.append(f"{more} more states run." if more > 1 else "1 more state runs.")
    return sentences


def _delayed(states: list[tuple[datetime, State]], now: datetime) -> list[str]:
    sentences = []
    for due_at, state in sorted(states, key=lambda pair: pair[0])[:MAX_SENTENCES]:
        event = "is due"
        if state.retry_count:
            plural = "s" if state.retry_count > 1 else ""
            event = f"is tried again (after {state.retry_count} failed attempt{plural})"
        left = length(due_at - now)
        sentences.append(f"{state.identifier} {event} at {exact(due_at)}, in {left}.")
    return sentences


def _ready(states: list[State], now: datetime) -> list[str]:
    """States that a worker could have claimed some time ago."""
    external = Counter(state.node for state in states if state.worker_namespace_id is not None)
    sentences = [
        f"{_states_are(count)} ready for node {node}, but no external worker claims "
        f"{'it' if count == 1 else 'them'}."
        for node, count in external.items()
    ]
    own = sum(state.worker_namespace_id is None for state in states)
    if not own:
        return sentences[:MAX_SENTENCES]
    clusters = Cluster.objects.alive().filter(stopping=False).count()
    if not clusters:
        sentence = (
            f"{_states_are(own)} ready, but no cluster is running: "
            "start one with `manage.py up` or `manage.py supervise`."
        )
    elif clusters == 1:
        sentence = f"{_states_are(own)} ready; the running cluster is busy with other work."
    else:
        sentence = (
            f"{_states_are(own)} ready; the {clusters} running clusters are busy with other work."
        )
    return [sentence, *sentences]


def _states_are(count: int) -> str:
    return "1 state is" if count == 1 else f"{count:,} states are"
