"""Running claimed states in this process.

The `Executor` alternates two things: it runs nodes in *threads* (threads: one for computing, many for waiting) and records what came of them in
slices. Its own thread never runs a node, so leases are renewed and logs and progress appear while a slow node still works.
"""

import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from time import monotonic, sleep
from typing import Any, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from graphs.nodes.base import registry
from runs.core import sql
from runs.core.failpoints import failpoint
from runs.engine import claim as claim_module
from runs.engine import heartbeat, record, wakeup
from runs.engine.counters import RunCounters
from runs.engine.node_threads import NodeThread, emptied, has_side_effects
from runs.engine.record import MAX_BATCH
from runs.engine.types import Claimed, Lease, NewState, Outcome, worker_name

log = logging.getLogger(__name__)
T = TypeVar("T")
BATCH_SECONDS = 0.020
FAST_SECONDS = 0.002
BUSY_SECONDS = 15.0  # so long a drain may go on claiming beside a slow node
FLUSH_SECONDS = 0.4
QUARANTINE_SECONDS = 1.0
REPLAN_SECONDS = 1.0
SLOW_SECONDS = 2.0


class Executor:
    """The worker of one process. `threads=False` runs everything in the calling thread (tests, small commands)."""

    def __init__(self, threads: bool = True, cluster: str = "") -> None:
        self.name = worker_name(cluster or socket.gethostname()[:60], os.getpid())
        self.cluster = cluster
        self.facts, self.scan_floors = claim_module.FactsCache(), claim_module.ScanFloors()
        self.speed: dict[str, float] = {}
        self.threads: list[NodeThread] = []
        self.pool = (
            ThreadPoolExecutor(settings.NODE_THREADS + 2, thread_name_prefix="thread")
            if threads
            else None
        )
        self.reporter = heartbeat.Reporter(self.name, cluster)
        self.counters_by_run: dict[int, RunCounters] = {}
        self.tainted = False  # a thread was abandoned
        self._planned = monotonic()
        self._quarantine_tried = (
            monotonic() - QUARANTINE_SECONDS / 2
        )  # something else first: one of them may have killed its last worker

    # --- the loop --------------------------------------------------------------------------------------------------

    def drain(self, budget: float = 1.5) -> int:
        """Claim, run and record until nothing is ready or the budget (seconds) is spent; says how many it recorded.

        What was begun is always finished and recorded, however long it takes; while it takes, free threads get more.
        """
        began, recorded = monotonic(), 0
        self.scan_floors.forget()
        self._calmly(self.reporter.alive)
        if self._quarantine_due():
            recorded += self._run_quarantined()
        batch: list[Claimed] = []
        while True:
            more = (
                monotonic() - began < (max(budget, BUSY_SECONDS) if self.threads else budget)
                and not self.reporter.stopping
                and not self._quarantine_waits()
            )
            if not batch and more:
                batch = self._calmly(self._claim) or []
            if not batch and not self.threads:
                if self._replanned() and more:
                    continue  # what is planned now needn't be when a run is waiting
                return recorded + (self._run_quarantined() if more or self._quarantine_due() else 0)
            outcomes = self._run(batch)
            lease = Lease(self.name, settings.LEASE_SECONDS, self._chooser()) if more else None
            done = self._record(outcomes, lease)
            recorded += len(done.accepted)
            batch = done.leased
            if done.left_over and (not more or len(outcomes) >= MAX_BATCH):
                self._calmly(wakeup.hint)
            self._calmly(self.reporter.tick, self.threads)

    def _calmly(self, call: Callable[..., T], *args: Any) -> T | None:
        """What can wait while the database is away must not end the loop, which holds states."""
        try:
            return call(*args)
        except (OperationalError, InterfaceError):
            log.warning("the database is away", exc_info=True)
            connection.close()
            return None

    def _replanned(self) -> bool:
        """Let statements be planned anew, if that is due."""
        if monotonic() - self._planned <= REPLAN_SECONDS:
            return False
        self._calmly(sql.replan)
        self._planned = monotonic()
        return True

    def _quarantine_due(self) -> bool:
        return monotonic() - self._quarantine_tried > QUARANTINE_SECONDS

    def _quarantine_waits(self) -> bool:
        """Whether quarantined are ready: then nothing else is begun until the threads are empty and they had their turn; no slow node is waited for."""
        if (
            not self.threads
            or not self._quarantine_due()
            or any(
                thread.current and monotonic() - thread.began > SLOW_SECONDS
                for thread in self.threads
            )
        ):
            return False
        waiting = bool(self._calmly(claim_module.work_is_ready, registry, claim_module.QUARANTINED))
        if not waiting:
            self._quarantine_tried = monotonic()
        return waiting

    def _run_quarantined(self) -> int:
        """States that lost their worker before run with nothing else beside them; as many as a moment has room for."""
        claim = partial(
            claim_module.claim, self.name, lease_seconds=settings.LEASE_SECONDS, facts=self.facts
        )
        until, recorded = monotonic() + QUARANTINE_SECONDS, 0

        def take() -> list[Claimed]:
            if not claim_module.work_is_ready(registry, claim_module.QUARANTINED):
                return []
            return claim(self._groups(), which=claim_module.ONCE) or claim(
                [(list(registry), 1)], which=claim_module.OFTEN
            )

        while batch := self._calmly(take) or []:
            while batch or self.threads:
                recorded += len(self._record(self._run(batch), None).accepted)
                batch = []
                self._calmly(self.reporter.tick, self.threads)
            if monotonic() > until or self.reporter.stopping:
                break
        self._quarantine_tried = monotonic()
        if recorded:
            self._calmly(wakeup.hint)
        return recorded

    def _record(self, outcomes: list[Outcome], lease: Lease | None) -> record.RecordedBatch:
        """Record the outcomes in a slice; those of nodes with side effects each alone and first."""
        done = record.RecordedBatch()
        alone = [
            outcome
            for outcome in outcomes
            if has_side_effects(outcome.state) and outcome.kind != "release"
        ]
        rest = [outcome for outcome in outcomes if outcome not in alone] if alone else outcomes
        for group in [*([outcome] for outcome in alone), rest]:
            if group:
                done.add(self._persistently(group, lease))
        for outcome in outcomes:
            if outcome.state.id not in done.accepted and outcome.kind != "release":
                log.info(
                    "dropped a late outcome of %s, attempt %s",
                    outcome.state.id,
                    outcome.state.attempt,
                )
        return done

    def _persistently(self, outcomes: list[Outcome], lease: Lease | None) -> record.RecordedBatch:
        """While the database is away try again, as long as the leases may hold."""
        give_up, pause = monotonic() + settings.LEASE_SECONDS, 0.05
        while True:
            try:
                failpoint("after-effect-before-record")
                done = record.record_outcomes(outcomes, lease, self._known(outcomes))
                self.counters_by_run = (
                    done.counters_by_run if len(done.counters_by_run) == 1 else {}
                )
                return done
            except (OperationalError, InterfaceError):
                log.warning(
                    "the database is away; %s outcomes wait to be recorded",
                    len(outcomes),
                    exc_info=True,
                )
                connection.close()
                if monotonic() > give_up:
                    return record.RecordedBatch()
            except Exception:
                log.exception(
                    "outcomes of %s can't be recorded; their leases will end",
                    [outcome.state.id for outcome in outcomes],
                )
                return record.RecordedBatch()
            sleep(pause)
            pause = min(2 * pause, 2.0)

    def _known(self, outcomes: list[Outcome]) -> RunCounters | None:
        """The counters of the only run of these outcomes, if this worker wrote them last."""
        runs = {outcome.state.run.pk for outcome in outcomes}
        return self.counters_by_run.get(runs.pop()) if len(runs) == 1 else None

    def _claim(self) -> list[Claimed]:
        states = claim_module.claim(
            self.name,
            self._groups(),
            settings.LEASE_SECONDS,
            self.facts,
            scan_floors=self.scan_floors,
        )
        if states:
            failpoint("after-claim-commit")
        if len(states) >= MAX_BATCH:
            self._calmly(wakeup.hint)
        return states

    def _groups(self) -> list[claim_module.Group]:
        """What this worker can start now: one of a node that is slow or that it hasn't seen, more of one that has been fast, all waiting that fit."""
        fast = [
            kind
            for kind in registry
            if not registry[kind].waits and self.speed.get(kind, 1) < FAST_SECONDS
        ]
        waiting = [kind for kind, node in registry.items() if node.waits and not node.side_effects]
        alone = [
            kind for kind, node in registry.items() if node.waits and node.side_effects
        ]  # of these a worker that dies leaves one to do again
        other = [kind for kind in registry if kind not in fast and not registry[kind].waits]
        running = [registry[thread.kind] for thread in self.threads]
        waited_for = sum(node.waits and not node.side_effects for node in running)
        sending = sum(node.waits and node.side_effects for node in running)
        computing = len(running) > waited_for + sending
        free = (fast, 0 if computing else MAX_BATCH), (other, 0 if computing else 1)
        return [*free, (alone, 1 - sending), (waiting, settings.NODE_THREADS - waited_for)]

    def _chooser(self) -> Callable[[NewState], bool]:
        """Which successors this worker takes at once: what fits into the next slice, and of slow nodes only the first."""
        room, count, slow = BATCH_SECONDS, 0, 0

        def wants(state: NewState) -> bool:
            nonlocal room, count, slow
            node = state.run.plan.nodes[state.identifier]
            if (
                node.worker_namespace
                or node.kind not in registry
                or any(thread.current for thread in self.threads)
            ):
                return False
            cost = 1.0 if registry[node.kind].waits else self.speed.get(node.kind, 1.0)
            if cost >= FAST_SECONDS:
                slow += 1
                return slow == 1 and count == 0
            count, room = count + 1, room - cost
            return slow == 0 and count <= MAX_BATCH and room > 0

        return wants

    # --- running ---------------------------------------------------------------------------------------------------

    def _run(self, batch: list[Claimed]) -> list[Outcome]:
        """Begin the batch and give what is done when something is; unstarted states come back as released."""
        until = monotonic() + BATCH_SECONDS
        computing: list[Claimed] = []
        threads: list[NodeThread] = []
        for state in batch:
            if registry[state.node.kind].waits:
                threads.append(NodeThread([state], until))
            else:
                computing.append(state)
        if computing:
            threads.append(NodeThread(computing, until))
        if self.pool is None:
            for thread in threads:
                thread.work()
            return self._collect(threads)
        self.threads += [self._begin(thread) for thread in threads]
        futures = [thread.future for thread in self.threads if thread.future]
        wait(
            futures,
            timeout=BATCH_SECONDS if batch else FLUSH_SECONDS / 2,
            return_when=FIRST_COMPLETED,
        )
        outcomes = self._collect(self.threads) + self._overdue()
        self.threads = [thread for thread in self.threads if not thread.empty]
        return outcomes

    def _begin(self, thread: NodeThread) -> NodeThread:
        assert self.pool is not None
        thread.future = self.pool.submit(thread.work_in_thread)
        return thread

    def _collect(self, threads: list[NodeThread]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for thread in threads:
            if thread.over or monotonic() >= thread.until:
                outcomes += [Outcome(state, "release") for state in emptied(thread.left)]
            outcomes += emptied(thread.done)
            for kind, seconds in emptied(thread.speeds):
                self._learn(kind, seconds)
        return outcomes

    def _overdue(self) -> list[Outcome]:
        """States past their node's deadline fail; their threads are abandoned and the process is to be replaced."""
        outcomes = []
        for thread in list(self.threads):
            current = thread.current
            limit = min(
                (current and current[0].node.timeout) or settings.NODE_TIMEOUT_SECONDS,
                settings.NODE_TIMEOUT_SECONDS,
            )
            if current and monotonic() - thread.began > limit:
                current[1].cancel()
                outcomes.append(
                    Outcome(
                        current[0],
                        "error",
                        error=f"timed out: it ran longer than {limit:g} s",
                        lines=current[1].take_lines(),
                    )
                )
                self.threads.remove(thread)
                self.tainted = True
        return outcomes

    def _learn(self, kind: str, seconds: float) -> None:
        """One call that took long, because the machine was busy, doesn't make a fast node a slow one."""
        usual = self.speed.get(kind, seconds)
        self.speed[kind] = 0.8 * usual + 0.2 * min(seconds, 4 * usual)
