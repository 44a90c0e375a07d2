"""When a node that waits for several states fires: see `graphs.definition.topology` for what a join, its dominator and its region are.

Called inside the transaction that records finished states, with their runs locked; so of the workers that finish the last
two states of a region exactly one sees it quiet.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from graphs.definition import payloads, uuids
from graphs.definition.plan import PlanNode
from graphs.definition.references import Unresolved
from graphs.definition.topology import ROOT
from runs.core import paths, sql, statuses
from runs.engine import advance
from runs.engine.advance import PLACE, THERE, Recorded
from runs.engine.counters import RunCounters
from runs.engine.types import NewState, RunFacts


@dataclass(frozen=True)
class Candidate:
    """A join that may fire below the dominator's state at `prefix`."""

    run: int
    join: str
    prefix: str


def candidates(run: RunFacts, identifier: str, path: str) -> Iterator[Candidate]:
    """The joins that a state which just ended may have been the last to hold up."""
    plan = run.plan
    for join in plan.shape.watchers[identifier]:
        prefix = paths.trim(path, advance.indexes(plan, plan.shape.dominator[join]))
        if not paths.is_empty(prefix):
            yield Candidate(run.pk, join, prefix)


def fire(
    asked: Iterable[Candidate],
    runs: dict[int, RunFacts],
    counters_by_run: dict[int, RunCounters],
    new: list[NewState],
) -> list[NewState]:
    """The join states that these candidates make. `new` holds the states that the same slice makes."""
    fired: list[NewState] = []
    waiting, broken = _Places(each for each in new if each.status in statuses.UNFINISHED), _Places()
    left = {each for each in asked if not counters_by_run[each.run].stopping}
    settled: set[Candidate] = set()
    while left := left - settled:
        open_ = [
            each
            for each in left
            if not waiting.within(each, runs[each.run].plan.shape.region[each.join])
        ]
        blocked = _exists(open_, runs, "AND s.status IN ('CREATED', 'QUEUED') AND s.watched")
        ready = sorted(
            (each for at, each in enumerate(open_) if at not in blocked),
            key=lambda each: (each.run, _node(each, runs).index, each.prefix),
        )
        left = set()
        views = _look(ready, runs, counters_by_run)
        recorded = Recorded({place for each in ready for place in _places(each, runs)})
        for each, view in zip(ready, views, strict=True):
            shape = runs[each.run].plan.shape
            if view.made or waiting.within(each, shape.region[each.join]):
                continue
            view.failed = view.failed or broken.within(each, shape.failing[each.join])
            settled.add(each)
            if view.fires:
                fired.append(state := _make(each, runs[each.run], view, recorded))
                (waiting if state.status == statuses.CREATED else broken).add(state)
            if not view.fires or fired[-1].status != statuses.CREATED:
                left |= set(candidates(runs[each.run], each.join, each.prefix))
    return fired


class _Places:
    """Where some states of this slice are, so that asking whether one is below a prefix costs the same for any number of them."""

    def __init__(self, states: Iterable[NewState] = ()) -> None:
        self._below: set[tuple[int, str, str]] = set()
        for state in states:
            self.add(state)

    def add(self, state: NewState) -> None:
        self._below |= {
            (state.run.pk, state.identifier, prefix) for prefix in paths.prefixes(state.path)
        }

    def within(self, each: Candidate, nodes: Iterable[str]) -> bool:
        return bool(self._below) and any(
            (each.run, node, each.prefix) in self._below for node in nodes
        )


@dataclass
class _View:
    """What is recorded below a candidate's prefix."""

    node: PlanNode
    parent: str | None
    made: bool = False
    arrived: bool = False
    failed: bool = False
    ran: bool = False

    @property
    def fires(self) -> bool:
        if self.node.all_done:
            return self.ran or self.arrived
        return self.arrived and not self.failed


def _look(
    ready: list[Candidate], runs: dict[int, RunFacts], counters_by_run: dict[int, RunCounters]
) -> list[_View]:
    views = [_View(_node(each, runs), None) for each in ready]
    table = [
        (at, each.run, *asked)
        for at, each in enumerate(ready)
        for asked in _questions(each, runs[each.run], counters_by_run[each.run])
    ]
    if not table:
        return views
    for at, role, state, chosen in sql.run(
        sql.statement(_LOOK, v={**PLACE, "role": "text"}), sql.values(table)
    ):
        view = views[at]
        if role == "dominator":
            view.parent = sql.key(state)
        elif role == "arrival":
            taken = sql.loads(chosen)
            view.arrived = view.arrived or taken is None or view.node.id in taken
        else:
            setattr(view, role, True)
    done = [(at, each) for at, each in enumerate(ready) if views[at].node.all_done]
    for found in _exists([each for _, each in done], runs, ""):
        views[done[found][0]].ran = True
    return views


def _questions(
    each: Candidate, run: RunFacts, run_counters: RunCounters
) -> Iterator[tuple[str, str, str, str]]:
    """(identifier, first path, last path, what an answer means)"""
    shape, last = run.plan.shape, paths.last(each.prefix)
    yield each.join, each.prefix, last, "made"
    if shape.dominator[each.join] != ROOT:
        yield shape.dominator[each.join], each.prefix, each.prefix, "dominator"
    for parent in shape.parents[each.join]:
        yield parent, each.prefix, last, "arrival"
    if run_counters.errored_count:
        for node in shape.failing[each.join]:
            yield node, each.prefix, last, "failed"


_LOOK = f"""
    SELECT v.ord, v.role, s.id, s.chosen FROM {{v}} JOIN statemanager_runs_state s ON {THERE} AND (
        v.role IN ('made', 'dominator') OR v.role = 'arrival' AND s.status = 'SUCCESS'
        OR v.role = 'failed' AND s.status IN ('ERRORED', 'NEXT_CREATED_ERROR', 'TIMEDOUT'))
"""


def _exists(asked: list[Candidate], runs: dict[int, RunFacts], condition: str) -> set[int]:
    """Which of the candidates have a state in their region that meets the condition."""
    table = [
        (at, each.run, node, each.prefix, paths.last(each.prefix))
        for at, each in enumerate(asked)
        for node in runs[each.run].plan.shape.region[each.join]
    ]
    if not table:
        return set()
    statement = f"SELECT DISTINCT v.ord FROM {sql.rows('v', **PLACE)} WHERE EXISTS (SELECT 1 FROM statemanager_runs_state s WHERE {THERE} {condition})"
    return {row[0] for row in sql.run(statement, sql.values(table))}


def _node(each: Candidate, runs: dict[int, RunFacts]) -> PlanNode:
    return runs[each.run].plan.nodes[each.join]


def _places(each: Candidate, runs: dict[int, RunFacts]) -> Iterable[Any]:
    run = runs[each.run]
    return (
        advance.place_of(run, each.join, each.prefix, need.node)
        for need in _node(each, runs).needs
        if need.source == "node"
    )


def _make(each: Candidate, run: RunFacts, view: _View, recorded: Recorded) -> NewState:
    try:
        return advance.new_state(run, each.join, each.prefix, view.parent, recorded, joined=True)
    except (Unresolved, payloads.NotJson) as error:
        state = NewState(
            uuids.uuid7(), run, each.join, each.prefix, view.parent, {}, "{}", None, joined=True
        )
        state.status, state.error = (
            statuses.NEXT_CREATED_ERROR,
            f"the inputs of {each.join} can't be made: {error}",
        )
        return state
