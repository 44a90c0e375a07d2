"""Running claimed states in this process.

The loop of a worker (`Executor.drain`):

1. Claim what this worker can start now.
2. Begin it in *node threads*: one for computing nodes, one for each node that waits, and more
   while a slow node computes (`runs.engine.lanes`).
3. Collect what is done, and fail what ran past its deadline.
4. Record the outcomes in a batch, which may lease the next states to this worker at once.
5. Renew leases, and store log lines and progress of what still runs.

The loop's own thread never runs a node (unless `threads=False`), so steps 3 to 5 go on while a
slow node works.
"""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from time import monotonic, sleep
from typing import ParamSpec, TypeVar

from graphs.nodes.base import registry
from runs.core import db_errors, sql
from runs.core.failpoints import failpoint
from runs.engine import claim, heartbeat, record, wakeup
from runs.engine.claimed_states import FactsCache
from runs.engine.counters import RunCounters
from runs.engine.deferred import Deferred
from runs.engine.lanes import BATCH_SECONDS, MAX_LANES, Lanes
from runs.engine.node_threads import NodeThread, emptied, has_side_effects
from runs.engine.record import MAX_BATCH
from runs.engine.turns import Group, Turns
from runs.engine.types import Claimed, Lease, Outcome, worker_name
from statemanager.conf import conf

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

# After this time a worker that still runs something begins nothing slow, so that its drain ends.
LATE_SECONDS = 15.0
LOOK_SECONDS = 0.2  # from one look for more work to the next, beside what still runs
QUARANTINE_SECONDS = 1.0
REPLAN_SECONDS = 1.0


class Executor:
    """The worker of one process.

    With `threads=False` everything runs in the calling thread, for tests and small commands.
    """

    def __init__(self, threads: bool = True, cluster: str = "") -> None:
        self.name = worker_name(cluster or socket.gethostname()[:60], os.getpid())
        self.cluster = cluster
        self.facts = FactsCache()
        self.turns = Turns()
        self.lanes = Lanes()
        self.pool = _pool() if threads else None
        self.reporter = heartbeat.Reporter(self.name, cluster)
        self.counters_by_run: dict[int, RunCounters] = {}
        self.deferred = Deferred()
        self.tainted = False  # a thread was abandoned
        self._began = self._planned = monotonic()
        # The first turn of quarantined states comes late: one may have killed the last worker.
        self._quarantine_tried = monotonic() - QUARANTINE_SECONDS / 2

    # --- the loop ------------------------------------------------------------------------------

    def drain(self, budget: float = 1.5) -> int:
        """Claim, run and record until nothing is ready or the budget (seconds) is spent.

        Returns the number of outcomes that were recorded. Whatever was begun is finished and
        recorded, however long it takes; meanwhile free threads get more to do.
        """
        self._began = monotonic()
        recorded = 0
        self.turns.expire()
        self._calmly(self.reporter.alive)
        if self._quarantine_due():
            recorded += self._run_quarantined()
        batch: list[Claimed] = []
        while True:
            more = self._takes_more(budget)
            if not batch and more:
                batch = self._calmly(self._claim) or []
            if not batch and not self.lanes.threads and not (self.deferred and more):
                if self._replanned() and more:
                    continue
                if more or self._quarantine_due():
                    recorded += self._run_quarantined()
                if self.deferred or (not more and self._calmly(claim.work_is_ready, registry)):
                    self._calmly(wakeup.hint)
                return recorded
            outcomes = self._run(batch)
            done = self._record(outcomes, self._lease(outcomes) if more else None)
            done.add(self._calmly(self.deferred.record) or record.RecordedBatch())
            recorded += len(done.accepted)
            batch = done.leased
            if done.left_over:
                self.turns.expire()
            if done.left_over and (not more or len(outcomes) >= MAX_BATCH):
                self._calmly(wakeup.hint)
            self._calmly(self.reporter.tick, self.lanes.threads, self.deferred.signs())

    def _takes_more(self, budget: float) -> bool:
        """Whether the loop may claim more states."""
        limit = budget
        if self.lanes.are_busy():
            limit = max(budget, conf.NODE_TIMEOUT_SECONDS)
        elif self.lanes.threads:
            limit = max(budget, LATE_SECONDS)
        return (
            monotonic() - self._began < limit
            and not self.reporter.stopping
            and not self.tainted
            and not self.deferred.full
            and not self._quarantine_waits()
        )

    def _calmly(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call what can be left out while the database is away.

        The loop must go on, because it holds states.
        """
        try:
            return call(*args, **kwargs)
        except db_errors.ERRORS as error:
            log.warning("%s failed and is left out this time", call.__qualname__, exc_info=True)
            db_errors.drop_connection(error)
            return None

    def _replanned(self) -> bool:
        """Let PostgreSQL plan its statements again, if that is due.

        Those of a claim are planned now, so that the next run need not wait for them.
        """
        if monotonic() - self._planned <= REPLAN_SECONDS:
            return False
        self._calmly(sql.replan)
        self._calmly(claim.rehearse, self._groups())
        self._planned = monotonic()
        return True

    # --- quarantine ----------------------------------------------------------------------------

    def _quarantine_due(self) -> bool:
        return monotonic() - self._quarantine_tried > QUARANTINE_SECONDS

    def _quarantine_waits(self) -> bool:
        """Whether quarantined states are ready and it is their turn.

        Then nothing else begins until the threads are empty. The turn does not come while a slow
        node runs.
        """
        if not (self.lanes.threads and self._quarantine_due()) or self.lanes.runs_slow_node():
            return False
        waiting = bool(self._calmly(claim.quarantined_work_is_ready, registry))
        if not waiting:
            self._quarantine_tried = monotonic()
        return waiting

    def _run_quarantined(self) -> int:
        """Run quarantined states with nothing beside them, for a moment. Returns how many."""
        until = monotonic() + QUARANTINE_SECONDS
        recorded = 0
        while batch := self._calmly(self._claim_quarantined) or []:
            while batch or self.lanes.threads:
                recorded += len(self._record(self._run(batch), None).accepted)
                batch = []
                self._calmly(self.reporter.tick, self.lanes.threads)
            if monotonic() > until or self.reporter.stopping:
                break
        self._quarantine_tried = monotonic()
        if recorded:
            self._calmly(wakeup.hint)
        return recorded

    def _claim_quarantined(self) -> list[Claimed]:
        """States that lost one worker, or else one that lost more."""
        if not claim.quarantined_work_is_ready(registry):
            return []
        states: list[Claimed] = []
        for group in self.lanes.groups():
            states += self._claim_from(group, claim.LOST_ONCE)
        return states or self._claim_from(Group(registry, 1), claim.LOST_OFTEN)

    def _claim_from(self, group: Group, quarantine: str) -> list[Claimed]:
        return claim.claim_quarantined(self.name, group, conf.LEASE_SECONDS, self.facts, quarantine)

    # --- recording -----------------------------------------------------------------------------

    def _record(self, outcomes: list[Outcome], lease: Lease | None) -> record.RecordedBatch:
        """Record the outcomes as one batch, after those with side effects, each of them alone."""
        done = record.RecordedBatch()
        alone = [outcome for outcome in outcomes if _is_recorded_alone(outcome)]
        rest = [outcome for outcome in outcomes if outcome not in alone] if alone else outcomes
        for group in [*([outcome] for outcome in alone), rest]:
            if group:
                done.add(self._persistently(group, lease))
        for outcome in outcomes:
            state = outcome.state
            is_recorded = state.id in done.accepted or outcome in done.locked
            if not is_recorded and outcome.kind != "release":
                log.info("dropped a late outcome of %s, attempt %s", state.id, state.attempt)
        return done

    def _persistently(self, outcomes: list[Outcome], lease: Lease | None) -> record.RecordedBatch:
        """Record the outcomes. While the database is away, try again for as long as a lease.

        If something else has locked some of the runs for too long, their outcomes are deferred.
        """
        give_up = monotonic() + conf.LEASE_SECONDS
        pause = 0.05
        skip_locked = False
        while True:
            try:
                failpoint("after-effect-before-record")
                known = None if skip_locked else self._known(outcomes)
                done = record.record_outcomes(outcomes, lease, known, skip_locked)
                self.deferred.add(done.locked)
                self._remember(done)
                return done
            except Exception as error:
                if db_errors.is_lock_timeout(error) and not skip_locked:
                    skip_locked = True
                    continue
                if not db_errors.passes(error):
                    ids = [outcome.state.id for outcome in outcomes]
                    log.exception("outcomes of %s can't be recorded; their leases will end", ids)
                    return record.RecordedBatch()
                log.warning(
                    "%s outcomes wait until the database records them", len(outcomes), exc_info=True
                )
                db_errors.drop_connection(error)
                if monotonic() > give_up:
                    return record.RecordedBatch()
            sleep(pause)
            pause = min(2 * pause, 2.0)

    def _known(self, outcomes: list[Outcome]) -> RunCounters | None:
        """The counters of the outcomes' only run, if this worker wrote them last."""
        runs = {outcome.state.run.pk for outcome in outcomes}
        return self.counters_by_run.get(runs.pop()) if len(runs) == 1 else None

    def _remember(self, done: record.RecordedBatch) -> None:
        self.counters_by_run = done.counters_by_run if len(done.counters_by_run) == 1 else {}

    # --- claiming ------------------------------------------------------------------------------

    def _claim(self) -> list[Claimed]:
        states = claim.claim(
            self.name,
            self._groups(),
            conf.LEASE_SECONDS,
            self.facts,
            self.turns,
        )
        if states:
            failpoint("after-claim-commit")
        if len(states) >= MAX_BATCH:
            self._calmly(wakeup.hint)
        return states

    def _groups(self) -> list[Group]:
        return self.lanes.groups(late=monotonic() - self._began > LATE_SECONDS)

    def _lease(self, outcomes: Sequence[Outcome]) -> Lease | None:
        """A lease for what follows from the outcomes, unless another namespace waits.

        Then the worker claims its next batch, of which each namespace gets its share.
        """
        groups = [group for group in self._groups() if group.limit > 0]
        if groups:
            nodes = [node for group in groups for node in group.nodes]
            self._calmly(self.turns.renew_if_due, nodes)
        backlogs = [backlog for group in groups for backlog in self.turns.backlogs_of(group)]
        waiting = {backlog.namespace for backlog in backlogs}
        if waiting - {outcome.state.run.namespace_id for outcome in outcomes}:
            return None
        return Lease(self.name, conf.LEASE_SECONDS, self.lanes.chooser())

    # --- running -------------------------------------------------------------------------------

    def _run(self, batch: list[Claimed]) -> list[Outcome]:
        """Begin the batch, and wait a moment for outcomes of anything that runs.

        States that were not begun in time come back with the outcome `release`.
        """
        threads = _node_threads(batch, until=monotonic() + BATCH_SECONDS)
        if self.pool is None:
            for thread in threads:
                thread.work()
            return self._collect(threads)
        for thread in threads:
            thread.future = self.pool.submit(thread.work_in_thread)
            self.lanes.threads.append(thread)
        futures = [thread.future for thread in self.lanes.threads if thread.future]
        timeout = BATCH_SECONDS if batch else LOOK_SECONDS
        if futures:
            wait(futures, timeout=timeout, return_when=FIRST_COMPLETED)
        elif self.deferred:
            sleep(timeout)
        outcomes = self._collect(self.lanes.threads) + self._overdue()
        self.lanes.threads = [thread for thread in self.lanes.threads if not thread.empty]
        return outcomes

    def _collect(self, threads: Sequence[NodeThread]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for thread in threads:
            if thread.over or monotonic() >= thread.until:
                outcomes += [Outcome(state, "release") for state in emptied(thread.waiting)]
            outcomes += emptied(thread.done)
            for backlog, seconds in emptied(thread.speeds):
                self.lanes.learn(backlog, seconds)
        return outcomes

    def _overdue(self) -> list[Outcome]:
        """Fail the states that run past their node's deadline.

        Their threads are abandoned, so the process has to be replaced.
        """
        outcomes = []
        for thread in list(self.lanes.threads):
            current = thread.current  # the thread may finish at any time
            if current is None:
                continue
            state, context = current
            limit = min(state.node.timeout or conf.NODE_TIMEOUT_SECONDS, conf.NODE_TIMEOUT_SECONDS)
            if monotonic() - thread.began > limit:
                context.cancel()
                error = f"timed out: it ran longer than {limit:g} s"
                outcomes.append(Outcome(state, "error", error=error, lines=context.take_lines()))
                self.lanes.threads.remove(thread)
                self.tainted = True
        return outcomes


def _pool() -> ThreadPoolExecutor:
    # One more than there are lanes, because an overdue thread is abandoned.
    workers = conf.NODE_THREADS + MAX_LANES + 1
    return ThreadPoolExecutor(workers, thread_name_prefix="thread")


def _node_threads(batch: Sequence[Claimed], until: float) -> list[NodeThread]:
    """A thread for each state that waits, and one for all that compute."""
    threads: list[NodeThread] = []
    computing: list[Claimed] = []
    for state in batch:
        if registry[state.node.kind].waits:
            threads.append(NodeThread([state], until))
        else:
            computing.append(state)
    if computing:
        threads.append(NodeThread(computing, until))
    return threads


def _is_recorded_alone(outcome: Outcome) -> bool:
    return outcome.kind != "release" and has_side_effects(outcome.state)
