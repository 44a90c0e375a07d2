"""What is recorded about joins that may run: see `runs.engine.join`."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from graphs.definition.plan import PlanNode
from graphs.definition.topology import ROOT
from runs.core import paths, sql
from runs.engine.counters import RunCounters
from runs.engine.types import RunFacts


@dataclass(frozen=True)
class Candidate:
    """A join that may run, below the state of its dominator at `prefix`."""

    run: int
    join: str
    prefix: str


def node_of(candidate: Candidate, runs: dict[int, RunFacts]) -> PlanNode:
    return runs[candidate.run].plan.nodes[candidate.join]


@dataclass
class Inspection:
    """What is recorded below a candidate's prefix.

    `parent` is the state of the dominator. `made` says that the join exists, `arrived` that an
    edge to it was taken, `failed` that a state before it failed, `ran` that any state did.
    """

    node: PlanNode
    parent: str | None = None
    made: bool = False
    arrived: bool = False
    failed: bool = False
    ran: bool = False

    @property
    def runs(self) -> bool:
        if self.node.all_done:
            return self.ran or self.arrived
        return self.arrived and not self.failed

    def note(self, role: str, state: str, chosen: str | None) -> None:
        """Note a row of `_inspect_statement`."""
        if role == "made":
            self.made = True
        elif role == "dominator":
            self.parent = sql.key(state)
        elif role == "failed":
            self.failed = True
        else:
            taken = sql.loads(chosen)
            self.arrived = self.arrived or taken is None or self.node.id in taken


class _Lookup(NamedTuple):
    """States to look for, and what it means if they exist (`Inspection.note`)."""

    identifier: str
    first_path: str
    last_path: str
    role: str


def inspect(
    ready: Sequence[Candidate],
    runs: dict[int, RunFacts],
    counters_by_run: dict[int, RunCounters],
) -> list[Inspection]:
    inspections = [Inspection(node_of(candidate, runs)) for candidate in ready]
    table: list[tuple[object, ...]] = []
    for at, candidate in enumerate(ready):
        lookups = _lookups(candidate, runs[candidate.run], counters_by_run[candidate.run])
        table += [(at, candidate.run, *lookup) for lookup in lookups]
    if not table:
        return inspections
    for at, role, state, chosen in sql.run(_inspect_statement(), sql.values(table)):
        inspections[at].note(role, state, chosen)

    all_done = [at for at, inspection in enumerate(inspections) if inspection.node.all_done]
    candidates = [ready[at] for at in all_done]
    for position in with_states_in_region(candidates, runs, _any_below_statement()):
        inspections[all_done[position]].ran = True
    return inspections


def _lookups(candidate: Candidate, run: RunFacts, run_counters: RunCounters) -> Iterator[_Lookup]:
    shape = run.plan.shape
    join, prefix, last = candidate.join, candidate.prefix, paths.last(candidate.prefix)
    yield _Lookup(join, prefix, last, "made")
    if shape.dominator[join] != ROOT:
        yield _Lookup(shape.dominator[join], prefix, prefix, "dominator")
    for parent in shape.parents[join]:
        yield _Lookup(parent, prefix, last, "arrival")
    if run_counters.errored_count:
        for node in shape.failing[join]:
            yield _Lookup(node, prefix, last, "failed")


@sql.statement
def _inspect_statement() -> str:
    """Everything that decides whether candidates run, for all of them at once.

    Each lookup is a range of paths in sm_state_of_run.
    """
    lookups = sql.rows(
        "v",
        ord="int",
        run="bigint",
        identifier="text",
        first="text",
        last="text",
        role="text",
    )
    return f"""
        SELECT v.ord, v.role, s.id, s.chosen
        FROM {lookups}
        JOIN statemanager_runs_state s
          ON s.run_id = v.run AND s.identifier = v.identifier
         AND s.path >= v.first AND s.path <= v.last
         AND (
            v.role IN ('made', 'dominator')
            OR v.role = 'arrival' AND s.status = 'SUCCESS'
            OR v.role = 'failed' AND s.status IN ('ERRORED', 'NEXT_CREATED_ERROR', 'TIMEDOUT')
         )
    """


@sql.statement
def unfinished_below_statement() -> str:
    """Which (candidate, node) pairs have an unfinished state below the candidate's prefix.

    The conditions on the status and `watched` are those of the partial index sm_state_unfinished,
    which holds only the states that joins wait for.
    """
    return f"""
        SELECT DISTINCT v.ord
        FROM {sql.rows("v", ord="int", run="bigint", identifier="text", first="text", last="text")}
        WHERE EXISTS (
            SELECT 1 FROM statemanager_runs_state s
            WHERE s.run_id = v.run AND s.identifier = v.identifier
              AND s.path >= v.first AND s.path <= v.last
              AND s.status IN ('CREATED', 'QUEUED') AND s.watched
        )
    """


@sql.statement
def _any_below_statement() -> str:
    """Which (candidate, node) pairs have any state below the candidate's prefix."""
    return f"""
        SELECT DISTINCT v.ord
        FROM {sql.rows("v", ord="int", run="bigint", identifier="text", first="text", last="text")}
        WHERE EXISTS (
            SELECT 1 FROM statemanager_runs_state s
            WHERE s.run_id = v.run AND s.identifier = v.identifier
              AND s.path >= v.first AND s.path <= v.last
        )
    """


def with_states_in_region(
    candidates: Collection[Candidate], runs: dict[int, RunFacts], statement: str
) -> set[int]:
    """The positions of the candidates for which the statement finds a state in their region."""
    table: list[tuple[object, ...]] = []
    for at, candidate in enumerate(candidates):
        last = paths.last(candidate.prefix)
        region = runs[candidate.run].plan.shape.region[candidate.join]
        table += [(at, candidate.run, node, candidate.prefix, last) for node in region]
    if not table:
        return set()
    return {row[0] for row in sql.run(statement, sql.values(table))}
