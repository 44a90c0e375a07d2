"""Recording what came of claimed states: one transaction, the *slice*, whatever the number of states and runs.

Its first statement locks the runs, its last writes their books; between them stand a constant number of statements. Outcomes whose fence
has moved on are dropped with all that would follow from them. See DESIGN's engine rules 2, 4 and 7.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.utils import timezone

from graphs import payloads
from runs import advancing, joining, ledger, paths, sql, statuses
from runs.advancing import Prepared
from runs.ledger import Ledger
from runs.tally import KNOWN
from runs.work import Claimed, Lease, Line, NewState, Outcome

log = logging.getLogger(__name__)
LOST_LEASES = 3
LONGEST_LEASE_SECONDS = 7 * 24 * 3600  # a lease that ends later is absurd and counts as over
LOG_LINES_PER_RUN = 20_000


@dataclass(slots=True)
class Slice:
    """What a slice did: the ids it accepted, the final word for each, and the successors leased to the caller."""

    accepted: dict[str, str] = field(default_factory=dict)
    leased: list[Claimed] = field(default_factory=list)
    left_over: bool = False  # states became ready that nobody holds
    ended: set[int] = field(default_factory=set)

    def add(self, other: "Slice") -> None:
        self.accepted |= other.accepted
        self.leased += other.leased
        self.left_over = self.left_over or other.left_over
        self.ended |= other.ended


class _FenceMovedError(Exception):
    """Some outcomes came too late; `holding` are the ids of the others."""

    def __init__(self, holding: set[str]) -> None:
        self.holding = holding


def finish(outcomes: Sequence[Outcome], lease: Lease | None = None) -> Slice:
    """Record these outcomes and everything that follows from them.

    The slice is planned as if every fence held. If one doesn't, it is rolled back and planned again without that outcome.
    """
    prepared = advancing.prepare(outcomes)
    while prepared:
        try:
            with transaction.atomic():
                return _slice(prepared, lease)
        except _FenceMovedError as moved:
            holding = moved.holding
        except IntegrityError:  # the books refuse a state that ends twice before its fence is looked at
            holding = _holding(prepared)
            if len(holding) == len(prepared):
                raise
        prepared = [each for each in prepared if each.outcome.state.id in holding]
    return Slice()


_HOLDING = "SELECT s.id FROM {v} JOIN runs_state s ON s.id = v.id AND s.status = 'QUEUED' AND (v.attempt IS NULL OR s.attempt = v.attempt)"


def _holding(prepared: Sequence[Prepared]) -> set[str]:
    """The states whose fence holds at this moment."""
    table = [[each.outcome.state.id, each.outcome.state.attempt] for each in prepared]
    return {sql.key(row[0]) for row in sql.run(sql.statement(_HOLDING, v={"id": "uuid", "attempt": "int"}), sql.values(table))}


def record(outcomes: Sequence[Outcome], lease: Lease | None = None) -> Slice:
    """As `finish`; but an outcome that can't be stored fails its own state, not the slice that it is in."""
    try:
        return finish(outcomes, lease)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        log.exception("a slice of %s outcomes can't be recorded", len(outcomes))
        if len(outcomes) == 1:
            reason = payloads.clean(f"its result can't be recorded: {type(error).__name__}: {error}", 2000)
            return finish([Outcome(outcomes[0].state, "error", error=reason)])
    done = Slice()
    for outcome in outcomes:
        done.add(record([outcome], lease))
    return done


def _slice(prepared: Sequence[Prepared], lease: Lease | None) -> Slice:
    done, batch = Slice(), sql.Batch()
    runs = {each.outcome.state.run.pk: each.outcome.state.run for each in prepared}
    books = ledger.lock(runs, {pk: run.plan for pk, run in runs.items()})
    ended = [(each, _status(each, books[each.outcome.state.run.pk])) for each in prepared if each.outcome.state.run.pk in books]
    if len(ended) < len(prepared):
        raise _FenceMovedError({each.outcome.state.id for each, _ in ended})
    _record(ended, books, batch)
    new: list[NewState] = []
    lines: list[tuple[Claimed, Line]] = []
    for each, status in ended:
        done.accepted[each.outcome.state.id] = status
        lines += [(each.outcome.state, line) for line in (*each.outcome.lines, *_said(each, status))]
        new += _account(each, status, books[each.outcome.state.run.pk])
    if asked := {found for each, status in ended if status in statuses.FINAL_STATES for found in _candidates(each, status)}:
        siblings = [state for state in new if state.status == statuses.SUCCESS]  # a join must see all outputs
        _insert(siblings, books, None, done, batch)
        new = [state for state in new if state.status != statuses.SUCCESS]
        _check(batch, ended)
        for state in joining.fire(asked, runs, books, new):
            _enter(state, books[state.run.pk])
            new.append(state)
    _bound(books)
    _insert(new, books, lease, done, batch)
    if any(book.stopping for book in books.values()):
        _check(batch, ended)
        cancel_unstarted(books)
    _keep_files([each for each, status in ended if status == statuses.SUCCESS])
    log_lines(lines, books, batch)
    for book in books.values():
        book.close()
    ledger.store(books.values(), batch)
    _check(batch, ended)
    done.ended = {pk for pk, book in books.items() if not book.open}
    return done


def _check(batch: sql.Batch, ended: Sequence[tuple[Prepared, str]]) -> None:
    """Send the batch; if it moved the states, all of them must have moved."""
    moved = batch.flush()
    if moved is not None and len(moved) < len(ended):
        raise _FenceMovedError({sql.key(row[0]) for row in moved})


# --- the states that end -------------------------------------------------------------------------------------------


def _status(each: Prepared, book: Ledger) -> str:
    """The word that the outcome's state gets, if its fence holds."""
    kind = each.outcome.kind
    if kind == "done":
        return statuses.NEXT_CREATED_ERROR if each.failed else statuses.SUCCESS
    if kind == "error":
        return statuses.RETRY_CREATED if each.twin and not book.stopping else statuses.ERRORED
    if kind == "prune":
        return statuses.PRUNED
    if kind == "lost" and each.outcome.state.lost + 1 >= LOST_LEASES:
        return statuses.TIMEDOUT
    return statuses.CANCELLED if book.stopping else statuses.CREATED


_COLUMNS = {
    "id": "uuid", "attempt": "int", "status": "text", "path": "text", "outputs": "jsonb", "chosen": "jsonb", "error": "text",
    "emitted": "bigint", "delay": "float8", "waiting_for": "jsonb", "held": "boolean", "lost": "int",
}  # fmt: skip
_RECORD = """
    UPDATE runs_state SET status = v.status, path = v.path, outputs = v.outputs, chosen = v.chosen, error = v.error,
        emitted = v.emitted, waiting_for = v.waiting_for, held = v.held, lost = runs_state.lost + v.lost,
        lease_expires_at = NULL, worker = '', due_at = CASE WHEN v.delay IS NULL THEN NULL ELSE {due} END,
        finished_at = CASE WHEN v.status = 'CREATED' THEN NULL ELSE {now} END
    FROM {v} WHERE runs_state.id = v.id AND runs_state.status = 'QUEUED' AND (v.attempt IS NULL OR runs_state.attempt = v.attempt)
        AND (v.lost = 0 OR runs_state.lease_expires_at IS NULL OR runs_state.lease_expires_at < {now} OR runs_state.lease_expires_at > {far})
    RETURNING runs_state.id
"""


def _record(accepted: Sequence[tuple[Prepared, str]], books: dict[int, Ledger], batch: sql.Batch) -> None:
    """Move the states to their new statuses."""
    table = [_row(each, status, books[each.outcome.state.run.pk]) for each, status in accepted]
    statement = sql.statement(_RECORD, due="v.delay", far=str(LONGEST_LEASE_SECONDS), v=_COLUMNS)
    batch.add(statement, sql.values(table), answers=True)


def _row(each: Prepared, status: str, book: Ledger) -> list[Any]:
    outcome, state = each.outcome, each.outcome.state
    comes_back = status == statuses.CREATED
    path = state.path
    if outcome.kind == "done" and outcome.fanned and not each.failed:
        path = each.paths[0] if each.paths else paths.below(state.path, state.node.index, paths.EMPTY)
    return [
        state.id,
        state.attempt,
        status,
        path,
        (outcome.outputs[0] if outcome.outputs else "{}") if outcome.kind in ("done", "prune") else None,
        advancing.chosen_json(each) if status == statuses.SUCCESS else None,
        each.failed or outcome.error,
        outcome.emitted if status == statuses.SUCCESS else 0,
        outcome.delay if comes_back and outcome.kind != "wait" else None,
        outcome.waiting_for if comes_back else None,
        comes_back and book.held,
        1 if outcome.kind == "lost" else 0,
    ]


# --- what follows --------------------------------------------------------------------------------------------------


def _account(each: Prepared, status: str, book: Ledger) -> list[NewState]:
    """Write an accepted outcome into the books; the answer is the states that it makes."""
    state = each.outcome.state
    if status not in statuses.FINAL_STATES:
        book.waiting_count += each.outcome.kind == "wait"
        return []
    book.finish(state.identifier, status)
    book.emitted += each.outcome.emitted if status == statuses.SUCCESS else 0
    book.current_node = state.identifier
    new: list[NewState] = []
    if status == statuses.SUCCESS:
        new = [*each.siblings, *each.children]
    elif status == statuses.RETRY_CREATED and each.twin:
        new = [each.twin]
    elif status in statuses.FAILED_STATES:
        book.error_message = book.error_message or f"{state.identifier}: {each.failed or each.outcome.error}"[:2000]
    for made in new:
        _enter(made, book)
    return new


def _said(each: Prepared, status: str) -> Iterator[Line]:
    """The lines that the engine itself adds to the run's log."""
    outcome, name = each.outcome, each.outcome.state.identifier
    if outcome.emitted and status == statuses.SUCCESS:
        yield timezone.now(), "info", f"{name} emitted {outcome.emitted:,} rows"
    elif status == statuses.RETRY_CREATED and each.twin:
        left = f"retry {each.twin.retry_count} of {outcome.state.node.policy.max_retries} in {each.twin.delay:.1f} s"
        yield timezone.now(), "warning", f"{name} failed, {left}: {outcome.error}"
    elif status in statuses.FAILED_STATES:
        yield timezone.now(), "error", f"{name} failed: {each.failed or outcome.error}"


def _enter(state: NewState, book: Ledger) -> None:
    if state.status == statuses.CREATED:
        book.appear(state.identifier, retry=state.retry_count > 0)
    elif state.status == statuses.SUCCESS:
        book.sibling(state.identifier)
    else:
        book.appear(state.identifier)
        book.finish(state.identifier, state.status)
        book.error_message = book.error_message or f"{state.identifier}: {state.error}"[:2000]


def _candidates(each: Prepared, status: str) -> Iterable[joining.Candidate]:
    state = each.outcome.state
    if status == statuses.RETRY_CREATED:
        return
    at = each.paths if status == statuses.SUCCESS and each.paths else [state.path]
    if status == statuses.SUCCESS and each.outcome.fanned and not each.paths:
        at = [paths.below(state.path, state.node.index, paths.EMPTY)]
    for path in at:
        yield from joining.candidates(state.run, state.identifier, path)


def _bound(books: dict[int, Ledger]) -> None:
    """Stop the runs that failed too often or made too many steps."""
    for book in books.values():
        plan = book.plan
        if plan is None or not book.open:
            continue
        known = sum(counts[KNOWN] for counts in book.tally.values())
        if book.errored_count > plan.failures_allowed(known):
            book.stop(f"too many failures ({book.errored_count}/{max(len(plan.order), known)} failed)")
        limit = book.max_steps or plan.max_steps
        if limit and book.started_count > limit:
            book.stop(f"max_steps reached ({limit} states may be started)")


_NEW = {
    "id": "uuid", "run": "bigint", "parent": "uuid", "namespace": "bigint", "retry_count": "int", "joined": "boolean", "watched": "boolean",
    "identifier": "text", "node": "text", "path": "text", "inputs": "jsonb", "status": "text", "held": "boolean", "delay": "float8",
    "worker": "text", "lease": "float8", "outputs": "jsonb", "chosen": "jsonb", "error": "text",
}  # fmt: skip
_INSERT = """
    INSERT INTO runs_state (id, run_id, parent, worker_namespace_id, created_at, retry_count, joined, watched, identifier, node, path, inputs, status,
        attempt, lost, held, due_at, lease_expires_at, worker, started_at, finished_at, progress, emitted, outputs, chosen, error, waiting_for, answer)
    SELECT v.id, v.run, v.parent, v.namespace, {now}, v.retry_count, v.joined, v.watched, v.identifier, v.node, v.path, v.inputs, v.status,
        CASE WHEN v.lease IS NULL THEN 0 ELSE 1 END, 0, v.held, {due}, CASE WHEN v.lease IS NULL THEN NULL ELSE {lease} END,
        v.worker, CASE WHEN v.lease IS NULL THEN NULL ELSE {now} END, CASE WHEN v.status IN ('CREATED', 'QUEUED') THEN NULL ELSE {now} END,
        0, 0, v.outputs, v.chosen, v.error, NULL, NULL
    FROM {v}
"""


def _insert(new: Sequence[NewState], books: dict[int, Ledger], lease: Lease | None, done: Slice, batch: sql.Batch) -> None:
    """Store the new states; those that the caller runs next are its own at once."""
    table = []
    for state in new:
        book = books[state.run.pk]
        free = state.status == statuses.CREATED and state.delay == 0 and not book.held and not book.stopping
        mine = lease if lease and free and lease.wants(state) else None
        if mine:
            done.leased.append(state.claimed())
        done.left_over = done.left_over or (free and not mine)
        table.append(new_row(state, book.held, mine))
    if table:
        insert(table, batch)


def insert(table: Sequence[Sequence[Any]], batch: sql.Batch) -> None:
    batch.add(sql.statement(_INSERT, due="v.delay", lease="v.lease", v=_NEW), sql.values(table))


def new_row(state: NewState, held: bool = False, lease: Lease | None = None) -> list[Any]:
    node, waits = state.run.plan.nodes[state.identifier], state.status == statuses.CREATED and lease is None
    return [
        state.id, state.run.pk, state.parent, state.run.worker_namespace(node.worker_namespace), state.retry_count,
        state.joined, bool(state.run.plan.shape.watchers[state.identifier]),
        state.identifier, node.kind, state.path, state.inputs_json, statuses.QUEUED if lease else state.status, held and waits,
        state.delay if waits else None, lease.worker if lease else "", lease.seconds if lease else None,
        state.outputs_json, state.chosen_json, state.error,
    ]  # fmt: skip


_CANCEL = """
    UPDATE runs_state SET status = 'CANCELLED', finished_at = {now}, due_at = NULL, lease_expires_at = NULL, waiting_for = NULL, held = false
    WHERE {among} AND status IN ({statuses}) RETURNING run_id, identifier
"""


def cancel_unstarted(books: dict[int, Ledger], words: str = "'CREATED'", every: bool = False) -> None:
    """Cancel the CREATED states of the runs that stop (or, on cancel, all unfinished ones of these runs)."""
    stopping = [pk for pk, book in books.items() if every or book.stopping]
    if not stopping:
        return
    statement = _CANCEL.format(now=sql.now(), among=sql.among("run_id", "bigint"), statuses=words)
    for pk, identifier in sql.run(statement, [sql.choices(stopping)]):
        books[pk].finish(identifier, statuses.CANCELLED)
    for pk in stopping:
        books[pk].waiting_count = 0


# --- logs and files ------------------------------------------------------------------------------------------------

_LINES = {"run": "bigint", "state": "uuid", "attempt": "int", "identifier": "text", "level": "text", "message": "text", "at": "timestamptz"}
_LOG = """
    INSERT INTO runs_logline (run_id, state, attempt, identifier, level, message, created_at)
    SELECT v.run, v.state, v.attempt, v.identifier, v.level, v.message, v.at FROM {v}
"""


def log_lines(lines: Sequence[tuple[Claimed, Any]], books: dict[int, Ledger], batch: sql.Batch) -> None:
    """Store lines of states whose fence was just checked; over its limit a run loses its oldest lines."""
    if not lines:
        return
    table = [[state.run.pk, state.id, state.attempt or 0, state.identifier, level, text, sql.stamp(at)] for state, (at, level, text) in lines]
    store_lines(table, batch)
    for state, _ in lines:
        books[state.run.pk].log_count += 1
    for book in books.values():
        if book.log_count > LOG_LINES_PER_RUN * 1.1:
            batch.flush()
            _drop_oldest_lines(book)


def store_lines(table: Sequence[Sequence[Any]], batch: sql.Batch) -> None:
    batch.add(sql.statement(_LOG, v=_LINES), sql.values(table))


def _drop_oldest_lines(book: Ledger) -> None:
    surplus = book.log_count - LOG_LINES_PER_RUN
    sql.send("DELETE FROM runs_logline WHERE id IN (SELECT id FROM runs_logline WHERE run_id = %s ORDER BY id LIMIT %s)", [book.pk, surplus])
    book.log_count = LOG_LINES_PER_RUN


def _keep_files(accepted: Iterable[Prepared]) -> None:
    from runs.models import Artifact

    files = [(each.outcome.state, file) for each in accepted for file in each.outcome.files]
    if files:
        Artifact.objects.bulk_create(Artifact(run_id=state.run.pk, state=state.id, identifier=state.identifier, **file) for state, file in files)
