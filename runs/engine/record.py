"""Recording what came of claimed states: one transaction, the *slice*, whatever the number of states and runs.

Its first statement locks the runs, its last writes their counters; between them stand a constant number of statements. Outcomes whose fence
has moved on are dropped with all that would follow from them. See DESIGN's engine rules 2, 4 and 7.

A worker that follows one run step by step knows the run's counters: it wrote them last. It may then do without the lock (`_record_optimistically`): one
statement that does everything if the counters still have the revision that it knows, and nothing otherwise.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.utils import timezone

from graphs.definition import payloads
from runs.core import paths, sql, statuses
from runs.core.failpoints import failpoint
from runs.core.node_counts import KNOWN
from runs.engine import advance, counters, join, store
from runs.engine.advance import Prepared
from runs.engine.counters import RunCounters
from runs.engine.store import Ended
from runs.engine.types import Claimed, Lease, Line, NewState, Outcome

log = logging.getLogger(__name__)
LOST_LEASES = 3
MAX_BATCH = 100  # outcomes that one transaction records


@dataclass(slots=True)
class RecordedBatch:
    """What a slice did: the final word for each state it accepted, the successors leased to the caller, and the counters as written."""

    accepted: dict[str, str] = field(default_factory=dict)
    leased: list[Claimed] = field(default_factory=list)
    left_over: bool = False  # states of our own nodes became ready that nobody holds
    counters_by_run: dict[int, RunCounters] = field(default_factory=dict)

    def add(self, other: "RecordedBatch") -> None:
        self.accepted |= other.accepted
        self.leased += other.leased
        self.left_over = self.left_over or other.left_over
        self.counters_by_run |= other.counters_by_run


class _FenceMovedError(Exception):
    """Some outcomes came too late; `holding` are the ids of the others."""

    def __init__(self, holding: set[str]) -> None:
        self.holding = holding


def record_batch(
    outcomes: Sequence[Outcome], lease: Lease | None = None, known: RunCounters | None = None
) -> RecordedBatch:
    """Record these outcomes and everything that follows from them.

    The slice is planned as if every fence held. If one doesn't, it is rolled back and planned again without that outcome.
    `known` are the counters of the outcomes' only run, as the caller's last slice left them.
    """
    prepared = advance.prepare(outcomes)
    if known is not None and prepared and (done := _record_optimistically(prepared, lease, known)):
        failpoint("after-completion-commit")
        return done
    while prepared:
        try:
            with transaction.atomic():
                done = _record_batch(prepared, lease)
            failpoint("after-completion-commit")
            return done
        except _FenceMovedError as moved:
            holding = moved.holding
        except (
            IntegrityError
        ):  # the counters refuse a state that ends twice before its fence is looked at
            holding = _holding(prepared)
            if len(holding) == len(prepared):
                raise
        prepared = [each for each in prepared if each.outcome.state.id in holding]
    return RecordedBatch()


_HOLDING = "SELECT s.id FROM {v} JOIN statemanager_runs_state s ON s.id = v.id AND s.status {queued} AND (v.attempt IS NULL OR s.attempt = v.attempt)"


def _holding(prepared: Sequence[Prepared]) -> set[str]:
    """The states whose fence holds at this moment."""
    table = [[each.outcome.state.id, each.outcome.state.attempt] for each in prepared]
    return {
        sql.key(row[0])
        for row in sql.run(
            sql.statement(_HOLDING, v={"id": "uuid", "attempt": "int"}), sql.values(table)
        )
    }


def record_outcomes(
    outcomes: Sequence[Outcome], lease: Lease | None = None, known: RunCounters | None = None
) -> RecordedBatch:
    """As `record_batch`; but an outcome that can't be stored fails its own state, not the slice that it is in."""
    try:
        return record_batch(outcomes, lease, known)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        log.exception("a slice of %s outcomes can't be recorded", len(outcomes))
        if len(outcomes) == 1:
            reason = payloads.clean(
                f"its result can't be recorded: {type(error).__name__}: {error}", 2000
            )
            return record_batch([Outcome(outcomes[0].state, "error", error=reason)])
    done = RecordedBatch()
    for outcome in outcomes:
        done.add(record_outcomes([outcome], lease))
    return done


def _record_batch(prepared: Sequence[Prepared], lease: Lease | None) -> RecordedBatch:
    runs = {each.outcome.state.run.pk: each.outcome.state.run for each in prepared}
    counters_by_run = counters.lock(runs, {pk: run.plan for pk, run in runs.items()})
    if len(counters_by_run) < len(runs):
        raise _FenceMovedError(
            {
                each.outcome.state.id
                for each in prepared
                if each.outcome.state.run.pk in counters_by_run
            }
        )
    statements, done = sql.Statements(), RecordedBatch(counters_by_run=counters_by_run)
    ended, new, lines = _accounted(prepared, counters_by_run, done)
    store.store_outcomes(ended, counters_by_run, statements)
    if asked := set(_asked(ended)):
        siblings = [
            state for state in new if state.status == statuses.SUCCESS
        ]  # a join must see all outputs
        store.insert(_rows(siblings, counters_by_run, None, done), statements)
        new = [state for state in new if state.status != statuses.SUCCESS]
        _check(statements, ended)
        for state in join.fire(asked, runs, counters_by_run, new):
            _enter(state, counters_by_run[state.run.pk])
            new.append(state)
    _bound(counters_by_run)
    store.insert(_rows(new, counters_by_run, lease, done), statements)
    if any(run_counters.stopping for run_counters in counters_by_run.values()):
        _check(statements, ended)
        store.cancel_unstarted(counters_by_run)
    store.keep_files(ended)
    store.insert_lines(store.line_rows(lines), statements)
    for run_counters in counters_by_run.values():
        run_counters.close()
        store.drop_oldest_lines(run_counters, statements)
    counters.store(counters_by_run.values(), statements)
    _check(statements, ended)
    failpoint("in-completion-before-commit")
    return done


def _check(statements: sql.Statements, ended: Sequence[Ended]) -> None:
    """Send the batch; if it moved the states, all of them must have moved."""
    moved = statements.flush()
    if moved is not None and len(moved) < len(ended):
        raise _FenceMovedError({sql.key(row[0]) for row in moved})


def _record_optimistically(
    prepared: Sequence[Prepared], lease: Lease | None, known: RunCounters
) -> RecordedBatch | None:
    """The slice of one run in a single statement, if nobody wrote its counters since; None, and nothing done, when it can't be so simple."""
    if (
        not sql.postgres()
        or not known.open
        or any(each.outcome.state.run.pk != known.pk or each.outcome.files for each in prepared)
    ):
        return None
    counters_by_run = {
        known.pk: replace(
            known, node_counts={node: list(counts) for node, counts in known.node_counts.items()}
        )
    }
    run_counters, statements, done = (
        counters_by_run[known.pk],
        sql.Statements(),
        RecordedBatch(counters_by_run=counters_by_run),
    )
    ended, new, lines = _accounted(prepared, counters_by_run, done)
    _bound(counters_by_run)
    if (
        run_counters.stopping
        or run_counters.log_count > store.LOG_LINES_PER_RUN
        or any(True for _ in _asked(ended))
    ):
        return None
    rows = _rows(new, counters_by_run, lease, done)
    run_counters.close()
    counters.store_known(
        run_counters,
        [[each.outcome.state.id, each.outcome.state.attempt] for each in prepared],
        statements,
    )
    store.store_outcomes(ended, counters_by_run, statements, sql.FIRST_MOVED)
    store.insert(rows, statements, sql.FIRST_MOVED)
    store.insert_lines(store.line_rows(lines), statements, sql.FIRST_MOVED)
    if not statements.flush():
        return None
    return done


# --- what becomes of the states, and what follows -------------------------------------------------------------------


def _status(each: Prepared, run_counters: RunCounters) -> str:
    """The word that the outcome's state gets, if its fence holds."""
    kind = each.outcome.kind
    if kind == "done":
        return statuses.NEXT_CREATED_ERROR if each.failed else statuses.SUCCESS
    if kind == "error":
        return (
            statuses.RETRY_CREATED if each.retry and not run_counters.stopping else statuses.ERRORED
        )
    if kind == "prune":
        return statuses.PRUNED
    if kind == "lost" and each.outcome.state.lost_leases + 1 >= LOST_LEASES:
        return statuses.TIMEDOUT
    return statuses.CANCELLED if run_counters.stopping else statuses.CREATED


def _accounted(
    prepared: Iterable[Prepared], counters_by_run: dict[int, RunCounters], done: RecordedBatch
) -> tuple[list[Ended], list[NewState], list[tuple[Claimed, Line]]]:
    """Write the outcomes into the counters: the statuses, the states that follow and the lines to log."""
    ended: list[Ended] = []
    new: list[NewState] = []
    lines: list[tuple[Claimed, Line]] = []
    for each in prepared:
        run_counters, status = (
            counters_by_run[each.outcome.state.run.pk],
            _status(each, counters_by_run[each.outcome.state.run.pk]),
        )
        ended.append((each, status))
        done.accepted[each.outcome.state.id] = status
        said = [(each.outcome.state, line) for line in (*each.outcome.lines, *_said(each, status))]
        run_counters.log_count += len(said)
        lines += said
        new += _account(each, status, run_counters)
    return ended, new, lines


def _account(each: Prepared, status: str, run_counters: RunCounters) -> list[NewState]:
    """Write an accepted outcome into the counters; the answer is the states that it makes."""
    state = each.outcome.state
    if status not in statuses.FINAL_STATES:
        run_counters.waiting_count += each.outcome.kind == "wait"
        return []
    run_counters.finish(state.identifier, status)
    run_counters.emitted += each.outcome.emitted if status == statuses.SUCCESS else 0
    run_counters.current_node = state.identifier
    new: list[NewState] = []
    if status == statuses.SUCCESS:
        new = [*each.siblings, *each.children]
    elif status == statuses.RETRY_CREATED and each.retry:
        new = [each.retry]
    elif status in statuses.FAILED_STATES:
        run_counters.error_message = (
            run_counters.error_message
            or f"{state.identifier}: {each.failed or each.outcome.error}"[:2000]
        )
    for made in new:
        _enter(made, run_counters)
    return new


def _said(each: Prepared, status: str) -> Iterator[Line]:
    """The lines that the engine itself adds to the run's log."""
    outcome, name = each.outcome, each.outcome.state.identifier
    if outcome.emitted and status == statuses.SUCCESS:
        yield timezone.now(), "info", f"{name} emitted {outcome.emitted:,} rows"
    elif status == statuses.RETRY_CREATED and each.retry:
        left = f"retry {each.retry.retry_count} of {outcome.state.node.policy.max_retries} in {each.retry.delay:.1f} s"
        yield timezone.now(), "warning", f"{name} failed, {left}: {outcome.error}"
    elif outcome.kind == "lost" and status == statuses.CREATED:
        yield (
            timezone.now(),
            "warning",
            f"{name} lost its worker in attempt {outcome.state.attempt}; it is ready again",
        )
    elif status in statuses.FAILED_STATES:
        yield timezone.now(), "error", f"{name} failed: {each.failed or outcome.error}"


def _enter(state: NewState, run_counters: RunCounters) -> None:
    if state.status == statuses.CREATED:
        run_counters.appear(state.identifier, retry=state.retry_count > 0)
    elif state.status == statuses.SUCCESS:
        run_counters.sibling(state.identifier)
    else:
        run_counters.appear(state.identifier)
        run_counters.finish(state.identifier, state.status)
        run_counters.error_message = (
            run_counters.error_message or f"{state.identifier}: {state.error}"[:2000]
        )


def _asked(ended: Iterable[Ended]) -> Iterator[join.Candidate]:
    """The joins that these states may have been the last to hold up."""
    for each, status in ended:
        if status in statuses.FINAL_STATES and status != statuses.RETRY_CREATED:
            yield from _candidates(each, status)


def _candidates(each: Prepared, status: str) -> Iterable[join.Candidate]:
    state = each.outcome.state
    at = each.paths if status == statuses.SUCCESS and each.paths else [state.path]
    if status == statuses.SUCCESS and each.outcome.fanned and not each.paths:
        at = [paths.below(state.path, state.node.index, paths.EMPTY)]
    for path in at:
        yield from join.candidates(state.run, state.identifier, path)


def _bound(counters_by_run: dict[int, RunCounters]) -> None:
    """Stop the runs that failed too often or made too many steps."""
    for run_counters in counters_by_run.values():
        plan = run_counters.plan
        if plan is None or not run_counters.open:
            continue
        known = sum(counts[KNOWN] for counts in run_counters.node_counts.values())
        if run_counters.errored_count > plan.failures_allowed(known):
            run_counters.stop(
                f"too many failures ({run_counters.errored_count}/{max(len(plan.order), known)} failed)"
            )
        limit = run_counters.max_steps or plan.max_steps
        if limit and run_counters.started_count > limit:
            run_counters.stop(f"max_steps reached ({limit} states may be started)")


def _rows(
    new: Sequence[NewState],
    counters_by_run: dict[int, RunCounters],
    lease: Lease | None,
    done: RecordedBatch,
) -> list[list[object]]:
    """The new states as rows; those that the caller runs next are its own at once."""
    table = []
    for state in new:
        run_counters = counters_by_run[state.run.pk]
        free = (
            state.status == statuses.CREATED
            and state.delay == 0
            and not run_counters.paused
            and not run_counters.stopping
        )
        mine = lease if lease and free and lease.wants(state) else None
        if mine:
            done.leased.append(state.claimed())
        done.left_over = done.left_over or (
            free and not mine and not state.run.plan.nodes[state.identifier].worker_namespace
        )
        table.append(store.new_row(state, run_counters.paused, mine))
    return table
