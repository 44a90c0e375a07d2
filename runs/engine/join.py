"""When a join runs. For joins, dominators and regions see `graphs.definition.topology`.

A join runs once for each state of its dominator, as soon as no state of its region is unfinished
below that state. This is decided inside the transaction that records finished states, with their
runs locked: of two workers that finish the last two states of a region, exactly one sees that
nothing in it is unfinished.

1. Each state that ends makes the joins that watch its node *candidates*.
2. A candidate waits while its region has unfinished states, in this batch or recorded.
3. What is recorded below the others tells whether they run: whether an edge leads to the join,
   whether something failed, and whether the join was made before.
4. A join that doesn't run, or whose inputs can't be made, may be the last thing that joins further
   down waited for. These are candidates of the next round.
"""

from collections.abc import Iterable, Iterator, Sequence

from graphs.definition import payloads, uuids
from runs.core import paths, statuses
from runs.engine.advance import CannotFollow, Prepared, new_state
from runs.engine.count_outcomes import Ended
from runs.engine.counters import RunCounters
from runs.engine.join_inspection import (
    Candidate,
    Inspection,
    inspect,
    node_of,
    unfinished_below_statement,
    with_states_in_region,
)
from runs.engine.recorded_outputs import Place, RecordedOutputs, fan_outs_above, places_of
from runs.engine.types import NewState, RunFacts


def candidates_of(ended: Iterable[Ended]) -> Iterator[Candidate]:
    """The joins that these states may have been the last to hold up."""
    for prepared, status in ended:
        final = status in statuses.FINAL_STATES and status != statuses.RETRY_CREATED
        if final and prepared.outcome.joins:
            state = prepared.outcome.state
            for path in _final_paths(prepared, status):
                yield from candidates_after(state.run, state.identifier, path)


def _final_paths(prepared: Prepared, status: str) -> Sequence[str]:
    """Where the state and its siblings are, now that it has ended."""
    outcome, state = prepared.outcome, prepared.outcome.state
    if status != statuses.SUCCESS:
        return [state.path]
    if prepared.paths:
        return prepared.paths
    if outcome.fanned:
        return [paths.below(state.path, state.node.index, paths.EMPTY)]
    return [state.path]


def candidates_after(run: RunFacts, identifier: str, path: str) -> Iterator[Candidate]:
    """The joins that a state which just ended may have been the last to hold up."""
    plan = run.plan
    for join in plan.shape.watchers[identifier]:
        prefix = paths.trim(path, fan_outs_above(plan, plan.shape.dominator[join]))
        if not paths.is_empty(prefix):
            yield Candidate(run.pk, join, prefix)


def fire(
    candidates: Iterable[Candidate],
    runs: dict[int, RunFacts],
    counters_by_run: dict[int, RunCounters],
    new: Iterable[NewState],
) -> list[NewState]:
    """The join states that these candidates make, counted in their runs; the caller stores them.

    `new` are the other states that the same batch makes.
    """
    firing = _Firing(runs, counters_by_run, new)
    waiting = {each for each in candidates if not counters_by_run[each.run].stopping}
    while waiting:
        waiting = firing.round(waiting) - firing.settled
    return firing.states


class _Firing:
    """The joins that one batch makes, in rounds."""

    def __init__(
        self,
        runs: dict[int, RunFacts],
        counters_by_run: dict[int, RunCounters],
        new: Iterable[NewState],
    ) -> None:
        self.states: list[NewState] = []
        self.settled: set[Candidate] = set()
        self._runs = runs
        self._counters_by_run = counters_by_run
        self._unfinished = _Places(state for state in new if state.status in statuses.UNFINISHED)
        self._failed = _Places()

    def round(self, waiting: Iterable[Candidate]) -> set[Candidate]:
        """Decide these candidates where possible. Returns the candidates of the next round."""
        ready = self._ready(waiting)
        inspections = inspect(ready, self._runs, self._counters_by_run)
        places: set[Place] = set()
        for candidate in ready:
            run = self._runs[candidate.run]
            places.update(places_of(run, candidate.join, candidate.prefix))
        recorded = RecordedOutputs(places)

        following: set[Candidate] = set()
        for candidate, inspection in zip(ready, inspections, strict=True):
            # A join of this round may have a state in the region of this one.
            if not inspection.made and not self._is_held_up(candidate):
                following |= self._decide(candidate, inspection, recorded)
        return following

    def _ready(self, waiting: Iterable[Candidate]) -> list[Candidate]:
        """The candidates whose region has no unfinished states, in topological order."""
        quiet = [candidate for candidate in waiting if not self._is_held_up(candidate)]
        held_up = with_states_in_region(quiet, self._runs, unfinished_below_statement())
        ready = [candidate for at, candidate in enumerate(quiet) if at not in held_up]
        return sorted(ready, key=self._order)

    def _order(self, candidate: Candidate) -> tuple[int, int, str]:
        return candidate.run, node_of(candidate, self._runs).index, candidate.prefix

    def _is_held_up(self, candidate: Candidate) -> bool:
        shape = self._runs[candidate.run].plan.shape
        return self._unfinished.any_below(candidate, shape.region[candidate.join])

    def _decide(
        self, candidate: Candidate, inspection: Inspection, recorded: RecordedOutputs
    ) -> set[Candidate]:
        """Make the join if it runs. Returns the candidates that no longer wait for it."""
        self.settled.add(candidate)
        run = self._runs[candidate.run]
        if not inspection.failed:
            failing = run.plan.shape.failing[candidate.join]
            inspection.failed = self._failed.any_below(candidate, failing)
        if inspection.runs:
            run_counters = self._counters_by_run[candidate.run]
            state = _make(candidate, run, inspection, recorded, run_counters)
            run_counters.enter(state)
            self.states.append(state)
            if state.status == statuses.CREATED:
                self._unfinished.add(state)
                return set()
            self._failed.add(state)
        return set(candidates_after(run, candidate.join, candidate.prefix))


class _Places:
    """Where some states of this batch are.

    All prefixes of their paths are stored, so that looking below a prefix costs the same for any
    number of states.
    """

    def __init__(self, states: Iterable[NewState] = ()) -> None:
        self._prefixes: set[tuple[int, str, str]] = set()
        for state in states:
            self.add(state)

    def add(self, state: NewState) -> None:
        self._prefixes |= {
            (state.run.pk, state.identifier, prefix) for prefix in paths.prefixes(state.path)
        }

    def any_below(self, candidate: Candidate, nodes: Iterable[str]) -> bool:
        """Whether a state of one of these nodes is below the candidate's prefix."""
        if not self._prefixes:
            return False
        return any((candidate.run, node, candidate.prefix) in self._prefixes for node in nodes)


def _make(
    candidate: Candidate,
    run: RunFacts,
    inspection: Inspection,
    recorded: RecordedOutputs,
    run_counters: RunCounters,
) -> NewState:
    """The state of the join; one that has failed if its inputs can't be made or stored."""
    join, prefix, parent = candidate.join, candidate.prefix, inspection.parent
    try:
        state = new_state(run, join, prefix, parent, recorded, joined=True)
        refusal = run_counters.refusal(state.size)
        if refusal:
            raise CannotFollow(join, payloads.NotJson(refusal))
        return state
    except CannotFollow as error:
        return NewState(
            uuids.uuid7(),
            run,
            join,
            prefix,
            parent,
            inputs={},
            inputs_json="{}",
            delay=None,
            joined=True,
            status=statuses.NEXT_CREATED_ERROR,
            error=str(error),
        )
