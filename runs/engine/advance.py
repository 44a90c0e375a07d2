"""What follows from finished states: their siblings, next states and retries; `runs.engine.join` knows when a join fires.

`prepare` does all that needs only the outcomes and what is already recorded, before a transaction is open: it evaluates edge
conditions and renders and serialises inputs. Its one statement reads the ancestors that inputs refer to.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from graphs.definition import payloads, references, retry_delay, uuids
from graphs.definition.expressions import EvaluationFailed
from graphs.definition.plan import Plan, PlanNode
from graphs.definition.references import Reference, Unresolved
from graphs.definition.topology import ROOT
from runs.core import paths, sql
from runs.engine.types import NewState, Outcome, RunFacts

MAX_PATH = 1000
Place = tuple[int, str, str, bool]  # run, identifier, path, exactly there (or below, too)
Found = tuple[str, str, str]  # state id, path, outputs as JSON text


@dataclass(slots=True)
class Prepared:
    """An outcome with what would follow if it is accepted. `failed` is why its successors can't be made."""

    outcome: Outcome
    paths: list[str] = field(default_factory=list)  # of each output
    chosen: list[tuple[str, ...]] = field(default_factory=list)  # next nodes of each output
    siblings: list[NewState] = field(default_factory=list)
    children: list[NewState] = field(default_factory=list)
    retry: NewState | None = None
    failed: str = ""


def prepare(outcomes: Iterable[Outcome]) -> list[Prepared]:
    """The consequences of each outcome, in order."""
    prepared = [Prepared(outcome) for outcome in outcomes]
    wanted: set[Place] = set()
    for each in prepared:
        if each.outcome.kind == "done":
            _branch(each)
            wanted |= {
                place
                for child, _ in _next(each)
                for place in _places(
                    each.outcome.state.run, each.outcome.state.identifier, child[0], child[1]
                )
            }
    recorded = Recorded(wanted)
    for each in prepared:
        if each.outcome.kind == "done" and not each.failed:
            _make_states(each, recorded)
        elif each.outcome.kind == "error":
            each.retry = _retry_of(each.outcome)
    return prepared


def _branch(each: Prepared) -> None:
    """Where each output stands and which edges it takes."""
    state, node = each.outcome.state, each.outcome.state.node
    if each.outcome.fanned:
        each.paths = [
            paths.below(state.path, node.index, item) for item in range(len(each.outcome.outputs))
        ]
    else:
        each.paths = [state.path]
    if any(len(path) > MAX_PATH for path in each.paths):
        each.failed = f"fan-outs are nested too deeply: a path may have {MAX_PATH} characters"
        return
    try:
        each.chosen = [_chosen(node, value) for value in each.outcome.values]
    except EvaluationFailed as error:
        each.failed = f"a condition of an edge from {node.id} failed: {error}"


def _chosen(node: PlanNode, outputs: Any) -> tuple[str, ...]:
    if not node.conditional:
        return tuple(edge.to for edge in node.edges)
    return tuple(
        edge.to
        for edge in node.edges
        if edge.condition is None or edge.condition.is_true(outputs=outputs)
    )


def _next(each: Prepared) -> Iterable[tuple[tuple[str, str], int]]:
    """((child, its path), which output) for each child that is no join."""
    plan = each.outcome.state.run.plan
    for at, (path, chosen) in enumerate(zip(each.paths, each.chosen, strict=False)):
        for child in chosen:
            if not plan.shape.is_join(child):
                yield (child, path), at


def _make_states(each: Prepared, recorded: "Recorded") -> None:
    outcome, state = each.outcome, each.outcome.state
    ids = [state.id, *(uuids.uuid7() for _ in each.paths[1:])]
    try:
        for (child, path), at in _next(each):
            own = (state.identifier, outcome.values[at])
            each.children.append(new_state(state.run, child, path, ids[at], recorded, own))
    except (Unresolved, payloads.NotJson) as error:
        each.failed, each.children = f"the inputs of {child} can't be made: {error}", []
        return
    for at in range(1, len(ids)):
        sibling = NewState(
            ids[at], state.run, state.identifier, each.paths[at], state.parent, None, None
        )
        sibling.status, sibling.outputs_json, sibling.retry_count = (
            "SUCCESS",
            outcome.outputs[at],
            state.retry_count,
        )
        sibling.chosen_json = chosen_json(each, at)
        each.siblings.append(sibling)


def chosen_json(each: Prepared, at: int = 0) -> str | None:
    """The edges that an output takes, as stored; None when its node has no conditions and so takes all of them."""
    if not each.paths:
        return "[]"
    return payloads.dump(list(each.chosen[at])) if each.outcome.state.node.conditional else None


def new_state(
    run: RunFacts,
    identifier: str,
    path: str,
    parent: str | None,
    recorded: "Recorded",
    own: tuple[str, Any] | None = None,
    **values: Any,
) -> NewState:
    """A state of this node template with its inputs rendered. Raises Unresolved and NotJson."""
    node = run.plan.nodes[identifier]
    inputs = node.render(lambda reference: _value(reference, run, identifier, path, recorded, own))
    return NewState(
        uuids.uuid7(), run, identifier, path, parent, inputs, payloads.dump(inputs), **values
    )


def _value(
    reference: Reference,
    run: RunFacts,
    identifier: str,
    path: str,
    recorded: "Recorded",
    own: tuple[str, Any] | None,
) -> Any:
    if reference.source == "run":
        return references.dig(run.inputs, reference.path, reference)
    if reference.source == "store":
        return references.dig({**run.plan.store_defaults, **run.store}, reference.path, reference)
    if own and own[0] == reference.node:
        return references.dig(own[1], reference.path, reference)
    place = place_of(run, identifier, path, reference.node)
    found = [entry for entry in recorded.at(place) if not paths.is_empty(entry[1])]
    fanned = any(entry[1] != place[2] for entry in recorded.at(place))
    if not place[3] and fanned:
        return [
            references.dig(sql.loads(outputs), reference.path, reference) for _, _, outputs in found
        ]
    return references.dig(sql.loads(found[0][2]), reference.path, reference) if found else None


def _places(run: RunFacts, own: str | None, identifier: str, path: str) -> Iterable[Place]:
    for reference in run.plan.nodes[identifier].needs:
        if reference.source == "node" and reference.node != own:
            yield place_of(run, identifier, path, reference.node)


def place_of(run: RunFacts, identifier: str, path: str, wanted: str) -> Place:
    """Where the states of node `wanted` are that a state of `identifier` at `path` may refer to.

    If `wanted` dominates it, that is one state; else all of them below the nearest dominator that they share.
    """
    plan = run.plan
    at = plan.shape.dominator[identifier]
    while at not in (ROOT, wanted) and at not in plan.shape.ancestors[wanted]:
        at = plan.shape.dominator[at]
    return run.pk, wanted, paths.trim(path, indexes(plan, at)), at == wanted


@lru_cache(maxsize=10_000)
def indexes(plan: Plan, node: str) -> frozenset[str]:
    """The indexes, as text, of a node and all its ancestors: the fan-outs that a path up to it may hold. Branches of the run are above all."""
    above = (*plan.shape.ancestors[node], node) if node != ROOT else ()
    return frozenset({paths.BRANCH, *(str(plan.nodes[name].index) for name in above)})


def _retry_of(outcome: Outcome) -> NewState | None:
    """The state that tries again after a reported error, if the policy allows one more."""
    state, policy = outcome.state, outcome.state.node.policy
    if state.retry_count >= policy.max_retries:
        return None
    wait = retry_delay.delay(policy, state.retry_count + 1) / 1000
    retry = NewState(
        uuids.uuid7(),
        state.run,
        state.identifier,
        state.path,
        state.parent,
        state.inputs,
        payloads.dump(state.inputs),
        wait,
    )
    retry.retry_count = state.retry_count + 1
    return retry


class Recorded:
    """The recorded outputs of finished states at some places, read in one statement."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._found: dict[Place, list[Found]] = {place: [] for place in places}
        if not self._found:
            return
        asked = list(self._found)
        table = [
            (at, run, identifier, path, path if exact else paths.last(path))
            for at, (run, identifier, path, exact) in enumerate(asked)
        ]
        for at, state, path, outputs in sql.run(
            sql.statement(_OUTPUTS, v=PLACE), sql.values(table)
        ):
            self._found[asked[at]].append((sql.key(state), path, outputs))
        for entries in self._found.values():
            entries.sort(key=lambda entry: paths.order(entry[1]))

    def at(self, place: Place) -> list[Found]:
        return self._found.get(place, [])


PLACE = {"ord": "int", "run": "bigint", "identifier": "text", "first": "text", "last": "text"}
THERE = (
    "s.run_id = v.run AND s.identifier = v.identifier AND s.path >= v.first AND s.path <= v.last"
)
_OUTPUTS = f"SELECT v.ord, s.id, s.path, s.outputs FROM {{v}} JOIN statemanager_runs_state s ON {THERE} AND s.status = 'SUCCESS'"
