"""Recording what came of claimed states: one transaction, the *batch*, for any number of states.

1. Before the transaction, `advance.prepare` works out what follows from each outcome.
2. The transaction locks the runs and reads their counters.
3. The outcomes are counted; what follows becomes new states and log lines; joins fire.
4. A constant number of statements writes everything, the counters last. On PostgreSQL most of them
   are one round trip.

A batch is planned as if every fence held. If one doesn't, its transaction is rolled back, and the
batch is planned again without that outcome: nothing that follows from it is stored either.

*Optimistic record*: a worker that follows one run step by step knows the run's counters, because
it wrote them last. It needs no lock: one statement does everything if the counters still have the
revision that it knows, and nothing otherwise.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from django.db import IntegrityError, transaction

from graphs.definition import payloads
from runs.core import db_errors, sql, statuses
from runs.core.failpoints import failpoint
from runs.engine import advance, counters, join, log_lines, overdue_answers, store
from runs.engine.advance import Prepared
from runs.engine.count_outcomes import Ended, count_outcomes, stop_at_limits
from runs.engine.counters import RunCounters
from runs.engine.types import Claimed, Lease, NewState, Outcome

log = logging.getLogger(__name__)
MAX_BATCH = 100  # outcomes that one transaction records


@dataclass(slots=True)
class RecordedBatch:
    """What a batch did.

    `accepted` are the ids of the states whose fence held, with their new statuses. `leased` are
    the successors that now belong to the caller. `left_over` says that states of our own nodes
    became ready that nobody holds. `counters_by_run` are the counters as written. `locked` are the
    outcomes that were left out, because something else has locked their runs.
    """

    accepted: dict[str, str] = field(default_factory=dict)
    leased: list[Claimed] = field(default_factory=list)
    left_over: bool = False
    counters_by_run: dict[int, RunCounters] = field(default_factory=dict)
    locked: list[Outcome] = field(default_factory=list)

    def add(self, other: "RecordedBatch") -> None:
        self.accepted |= other.accepted
        self.leased += other.leased
        self.left_over = self.left_over or other.left_over
        self.counters_by_run |= other.counters_by_run
        self.locked += other.locked


class _FenceMoved(Exception):
    """Some outcomes came too late. `holding` are the ids of the states whose fence held."""

    def __init__(self, holding: set[str]) -> None:
        self.holding = holding


class _RunsLocked(Exception):
    """Something else has locked some of the runs. `pks` are those."""

    def __init__(self, pks: set[int]) -> None:
        self.pks = pks


def record_outcomes(
    outcomes: Sequence[Outcome],
    lease: Lease | None = None,
    known: RunCounters | None = None,
    skip_locked: bool = False,
) -> RecordedBatch:
    """Record these outcomes; one that can't be stored fails its own state, not the whole batch.

    Takes the arguments of `record_batch`. Raises the errors of the database that pass.
    """
    try:
        return record_batch(outcomes, lease, known, skip_locked)
    except Exception as error:
        if db_errors.passes(error):
            raise
        log.exception("a batch of %s outcomes can't be recorded", len(outcomes))
        if len(outcomes) == 1:
            return _record_less(outcomes[0], _cause(error))
    done = RecordedBatch()
    for outcome in outcomes:
        done.add(record_outcomes([outcome], lease, skip_locked=skip_locked))
    return done


def _record_less(outcome: Outcome, cause: str) -> RecordedBatch:
    """Record an outcome without what can't be recorded. A success is never undone by it, because
    its node must not run again.

    First nothing follows from it but joins, then nothing at all; at last its outputs, lines and
    files are left out, too. Raises what the last attempt raises.
    """
    reason = payloads.clean(f"its result can't be recorded: {cause}", 2000)
    if outcome.kind not in ("done", "error"):
        return record_batch([Outcome(outcome.state, "error", error=reason)])
    stuck = reason if outcome.kind == "done" else f"{outcome.error} ({reason})"
    for joins in (True, False):
        try:
            return record_batch([replace(outcome, stuck=stuck, joins=joins)])
        except Exception as error:
            if db_errors.passes(error):
                raise
            log.exception("state %s can't be recorded with joins=%s", outcome.state.id, joins)
    bare = Outcome(outcome.state, outcome.kind, error=reason, stuck=reason, joins=False)
    return record_batch([bare])


def _cause(error: Exception) -> str:
    if db_errors.is_statement_timeout(error):
        return "the database allows less time (statement_timeout) than that needs"
    return f"{type(error).__name__}: {error}"


def record_batch(
    outcomes: Sequence[Outcome],
    lease: Lease | None = None,
    known: RunCounters | None = None,
    skip_locked: bool = False,
) -> RecordedBatch:
    """Record these outcomes and everything that follows from them.

    Successors that the `lease` wants are claimed for its worker at once. `known` are the counters
    of the outcomes' only run, as the caller's last batch left them. With `skip_locked` the outcomes
    of runs that something else has locked are left out and returned.
    """
    batch = advance.prepare(outcomes)
    locked: list[Outcome] = []
    if known is not None and batch:
        done = _record_optimistically(batch, lease, known)
        if done:
            failpoint("after-completion-commit")
            return done
    while batch:
        try:
            with transaction.atomic():
                done = _record_locked(batch, lease, skip_locked)
            failpoint("after-completion-commit")
            done.locked = locked
            return done
        except _FenceMoved as moved:
            holding = moved.holding
        except _RunsLocked as runs_locked:
            left_out = [each for each in batch if each.outcome.state.run.pk in runs_locked.pks]
            locked += [prepared.outcome for prepared in left_out]
            holding = {each.outcome.state.id for each in batch if each not in left_out}
        except IntegrityError:
            # The counters refuse a state that ends twice before its fence is looked at.
            holding = _holding(batch)
            if len(holding) == len(batch):
                raise
        batch = [prepared for prepared in batch if prepared.outcome.state.id in holding]
    return RecordedBatch(locked=locked)


# --- under the locks of the runs -----------------------------------------------------------------


def _record_locked(
    batch: Sequence[Prepared], lease: Lease | None, skip_locked: bool
) -> RecordedBatch:
    runs = {prepared.outcome.state.run.pk: prepared.outcome.state.run for prepared in batch}
    plans = {pk: run.plan for pk, run in runs.items()}
    counters_by_run = counters.lock(runs, plans, skip_locked)
    if len(counters_by_run) < len(runs):
        locked = counters.existing(runs.keys() - counters_by_run.keys()) if skip_locked else set()
        if locked:
            raise _RunsLocked(locked)
        raise _FenceMoved(_states_of_runs(batch, counters_by_run))

    statements = sql.Statements()
    ended, new, lines = count_outcomes(batch, counters_by_run)
    done = RecordedBatch(_accepted(ended), counters_by_run=counters_by_run)
    store.store_outcomes(ended, counters_by_run, statements)

    candidates = set(join.candidates_of(ended))
    if candidates:
        # Joins must see all outputs.
        siblings = [state for state in new if state.status == statuses.SUCCESS]
        store.insert_states(_state_rows(siblings, counters_by_run, None, done), statements)
        _flush(statements, ended)
        new = [state for state in new if state.status != statuses.SUCCESS]
        new += join.fire(candidates, runs, counters_by_run, new)

    stop_at_limits(counters_by_run)
    store.insert_states(_state_rows(new, counters_by_run, lease, done), statements)
    if any(run_counters.stopping for run_counters in counters_by_run.values()):
        _flush(statements, ended)
        store.cancel_unstarted(counters_by_run)
    store.insert_artifacts(ended)
    overdue_answers.add_to(statements, (prepared.outcome for prepared, _ in ended))
    log_lines.insert(log_lines.rows_of(lines), statements)
    for run_counters in counters_by_run.values():
        run_counters.update_status()
        log_lines.drop_oldest(run_counters, statements)
    counters.store(counters_by_run.values(), statements)
    _flush(statements, ended)
    failpoint("in-completion-before-commit")
    return done


def _states_of_runs(batch: Iterable[Prepared], counters_by_run: dict[int, RunCounters]) -> set[str]:
    """The ids of the states whose runs still exist."""
    states = [prepared.outcome.state for prepared in batch]
    return {state.id for state in states if state.run.pk in counters_by_run}


def _flush(statements: sql.Statements, ended: Sequence[Ended]) -> None:
    """Send the statements. If they moved the states, all of the states must have moved.

    Raises _FenceMoved.
    """
    moved = statements.flush()
    if moved is not None and len(moved) < len(ended):
        raise _FenceMoved({sql.key(row[0]) for row in moved})


@sql.statement
def _holding_statement() -> str:
    """Which states still have the fences that their outcomes carry."""
    return f"""
        SELECT s.id
        FROM {sql.rows("v", state="uuid", attempt="int")}
        JOIN statemanager_runs_state s
          ON s.id = v.state
         AND s.status IN ('QUEUED', '')
         AND (v.attempt IS NULL OR s.attempt = v.attempt)
    """


def _holding(batch: Sequence[Prepared]) -> set[str]:
    rows = sql.run(_holding_statement(), sql.values(_fences(batch)))
    return {sql.key(row[0]) for row in rows}


def _fences(batch: Iterable[Prepared]) -> list[tuple[str, int | None]]:
    states = [prepared.outcome.state for prepared in batch]
    return [(state.id, state.attempt) for state in states]


# --- without a lock ------------------------------------------------------------------------------


def _record_optimistically(
    batch: Sequence[Prepared], lease: Lease | None, known: RunCounters
) -> RecordedBatch | None:
    """Record the batch of one run in one statement, if nothing has changed its counters since.

    Returns None, with nothing done, if something has, or if the batch needs more than that: joins,
    files, cancelled states, deleted log lines or a slot that is given back.
    """
    if not sql.postgres() or not known.open:
        return None
    if any(
        prepared.outcome.state.run.pk != known.pk or prepared.outcome.files for prepared in batch
    ):
        return None
    run_counters = replace(known, node_counts=_copied(known))
    counters_by_run = {known.pk: run_counters}
    ended, new, lines = count_outcomes(batch, counters_by_run)
    stop_at_limits(counters_by_run)
    if run_counters.stopping or run_counters.log_count > log_lines.LINES_PER_RUN:
        return None
    if any(True for _ in join.candidates_of(ended)):
        return None

    done = RecordedBatch(_accepted(ended), counters_by_run=counters_by_run)
    statements = sql.Statements()
    state_rows = _state_rows(new, counters_by_run, lease, done)
    run_counters.update_status()
    if run_counters.gives_back_slot:
        return None
    counters.store_known(run_counters, _fences(batch), statements)
    store.store_outcomes(ended, counters_by_run, statements, sql.FIRST_CHANGED_A_ROW)
    store.insert_states(state_rows, statements, sql.FIRST_CHANGED_A_ROW)
    outcomes = (prepared.outcome for prepared, _ in ended)
    overdue_answers.add_to(statements, outcomes, sql.FIRST_CHANGED_A_ROW)
    log_lines.insert(log_lines.rows_of(lines), statements, sql.FIRST_CHANGED_A_ROW)
    return done if statements.flush() else None


def _copied(run_counters: RunCounters) -> dict[str, list[int]]:
    return {node: list(counts) for node, counts in run_counters.node_counts.items()}


# --- the results ---------------------------------------------------------------------------------


def _accepted(ended: Iterable[Ended]) -> dict[str, str]:
    return {prepared.outcome.state.id: status for prepared, status in ended}


def _state_rows(
    new: Sequence[NewState],
    counters_by_run: dict[int, RunCounters],
    lease: Lease | None,
    done: RecordedBatch,
) -> list[list[object]]:
    """The rows of the new states. Those that the lease wants belong to its worker at once."""
    rows = []
    for state in new:
        run_counters = counters_by_run[state.run.pk]
        free = (
            state.status == statuses.CREATED
            and state.delay == 0
            and not run_counters.paused
            and not run_counters.stopping
        )
        taken = lease is not None and free and lease.wants(state)
        if taken:
            done.leased.append(state.claimed())
            if state.run.plan.nodes[state.identifier].worker_namespace:
                run_counters.current_node = state.identifier  # its next sign of life may be far
        elif free and not state.run.plan.nodes[state.identifier].worker_namespace:
            done.left_over = True
        rows.append(store.state_row(state, run_counters.paused, lease if taken else None))
    return rows
