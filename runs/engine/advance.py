"""What follows from finished states: siblings, next states and retries.

`prepare` does everything that needs no lock, before the transaction begins:

1. It gives each output its path and evaluates the conditions of the edges.
2. It reads the recorded outputs that the next states refer to, in one statement.
3. It renders and serialises the inputs of the next states and of retries.

Joins are decided later, under the locks of the runs: see `runs.engine.join`.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import thread_time
from typing import NamedTuple

from graphs.definition import errors, payloads, references, retry_delay, uuids
from graphs.definition.expressions import EvaluationFailed
from graphs.definition.plan import PlanNode
from graphs.definition.references import Reference, Unresolved
from graphs.definition.types import Json
from runs.core import db_errors, paths, statuses
from runs.engine.recorded_outputs import Place, RecordedOutputs, place_of, places_of
from runs.engine.types import NewState, Outcome, RunFacts

MAX_PATH = 1000
MAX_REASON = 10_000  # characters
MAX_CONDITION_SECONDS = 2  # of processor time, for the conditions of all outputs of a state
MAX_NEXT_BYTES = 64 * 2**20  # of the inputs of all states that follow one state directly
_TOO_MUCH = f"the next states would have more than {MAX_NEXT_BYTES:,} bytes of inputs together"
Parent = tuple[str, Json]  # identifier and outputs of the state that a new state follows


class CannotFollow(ValueError):
    """Raised when a state that follows can't be made. The message says which one, and why."""

    def __init__(self, identifier: str, error: Exception) -> None:
        expected = isinstance(error, Unresolved | payloads.NotJson | errors.InvalidGraph)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        text = f"the inputs of {identifier} can't be made: {reason}"
        super().__init__(payloads.clean(text, MAX_REASON))


@dataclass(slots=True)
class Prepared:
    """An outcome with everything that follows from it if it is accepted.

    `paths` and `chosen` have one item for each output: its path, and the nodes that its edges lead
    to. `failed` says why no states can follow.
    """

    outcome: Outcome
    paths: list[str] = field(default_factory=list)
    chosen: list[tuple[str, ...]] = field(default_factory=list)
    siblings: list[NewState] = field(default_factory=list)
    children: list[NewState] = field(default_factory=list)
    retry: NewState | None = None
    failed: str = ""


class _Child(NamedTuple):
    """A state to make: its node, its path, and the number of the output that it follows."""

    identifier: str
    path: str
    output: int


def prepare(outcomes: Iterable[Outcome]) -> list[Prepared]:
    """The consequences of each outcome, in the order of the outcomes."""
    prepared = [Prepared(outcome) for outcome in outcomes]
    places: set[Place] = set()
    for consequences in prepared:
        if consequences.outcome.stuck:
            consequences.failed = consequences.outcome.stuck
        elif consequences.outcome.kind == "done":
            _choose_edges(consequences)
            places.update(_places(consequences))

    recorded = RecordedOutputs(places)
    for consequences in prepared:
        if consequences.failed:
            continue
        if consequences.outcome.kind == "done":
            _make_states(consequences, recorded)
        elif consequences.outcome.kind == "error":
            consequences.retry = _retry_of(consequences.outcome)
    return prepared


# --- edges ---------------------------------------------------------------------------------------


def _choose_edges(prepared: Prepared) -> None:
    """Give each output its path, and find the edges that it takes."""
    outcome = prepared.outcome
    state, node = outcome.state, outcome.state.node
    if outcome.fanned:
        items = range(len(outcome.outputs))
        prepared.paths = [paths.below(state.path, node.index, item) for item in items]
    else:
        prepared.paths = [state.path]
    if any(len(path) > MAX_PATH for path in prepared.paths):
        prepared.failed = (
            f"fan-outs are nested too deeply: a path may have {MAX_PATH} characters at most"
        )
        return
    try:
        until = thread_time() + _condition_seconds(outcome, node) if node.conditional else 0.0
        prepared.chosen = [_chosen(node, value, until) for value in outcome.values]
    except EvaluationFailed as error:
        reason = f"a condition of an edge from {node.id} failed: {error}"
        prepared.failed = payloads.clean(reason, MAX_REASON)


def _condition_seconds(outcome: Outcome, node: PlanNode) -> float:
    """The processor time that the conditions may take. To read large outputs takes time, too."""
    conditions = min(sum(edge.condition is not None for edge in node.edges), 20)
    megabytes = sum(map(len, outcome.outputs)) / 2**20
    return MAX_CONDITION_SECONDS + len(outcome.outputs) / 1000 + megabytes * conditions


def _chosen(node: PlanNode, outputs: Json, until: float) -> tuple[str, ...]:
    """The nodes to which an output goes on, decided before the thread's processor time `until`."""
    if not node.conditional:
        return tuple(edge.to for edge in node.edges)
    chosen = []
    for edge in node.edges:
        if edge.condition is None or edge.condition.is_true(outputs=outputs):
            chosen.append(edge.to)
        if thread_time() > until:
            raise EvaluationFailed(
                "they take more processor time than the conditions of a state with such outputs"
                " may take"
            )
    return tuple(chosen)


def chosen_json(prepared: Prepared, output: int = 0) -> str | None:
    """The edges that an output takes, as stored.

    None if its node has no conditions, so that it takes all of them.
    """
    if not prepared.paths:
        return "[]"
    if not prepared.outcome.state.node.conditional:
        return None
    return payloads.dump(list(prepared.chosen[output]))


# --- next states ---------------------------------------------------------------------------------


def _children(prepared: Prepared) -> Iterator[_Child]:
    """The states that follow directly. Joins are no such states."""
    shape = prepared.outcome.state.run.plan.shape
    outputs = zip(prepared.paths, prepared.chosen, strict=False)
    for output, (path, chosen) in enumerate(outputs):
        for identifier in chosen:
            if not shape.is_join(identifier):
                yield _Child(identifier, path, output)


def _places(prepared: Prepared) -> Iterator[Place]:
    """The places that the inputs of the next states refer to, besides the outcome itself."""
    state = prepared.outcome.state
    for child in _children(prepared):
        yield from places_of(state.run, child.identifier, child.path, known=state.identifier)


def _make_states(prepared: Prepared, recorded: RecordedOutputs) -> None:
    outcome, state = prepared.outcome, prepared.outcome.state
    ids = [state.id, *(uuids.uuid7() for _ in prepared.paths[1:])]
    size = 0
    for child in _children(prepared):
        parent = (state.identifier, outcome.values[child.output])
        try:
            new = new_state(
                state.run, child.identifier, child.path, ids[child.output], recorded, parent
            )
            size += new.size
            if size > MAX_NEXT_BYTES:
                raise CannotFollow(child.identifier, payloads.NotJson(_TOO_MUCH))
        except CannotFollow as error:
            prepared.failed = str(error)
            prepared.children = []
            return
        prepared.children.append(new)
    prepared.siblings = [_sibling(prepared, at, ids[at]) for at in range(1, len(ids))]


def _sibling(prepared: Prepared, output: int, id: str) -> NewState:
    """The state for a further output of a fan-out. It shares the inputs of the first one."""
    state = prepared.outcome.state
    return NewState(
        id,
        state.run,
        state.identifier,
        prepared.paths[output],
        state.parent,
        inputs=None,
        inputs_json=None,
        retry_count=state.retry_count,
        status=statuses.SUCCESS,
        outputs_json=prepared.outcome.outputs[output],
        chosen_json=chosen_json(prepared, output),
    )


def new_state(
    run: RunFacts,
    identifier: str,
    path: str,
    parent_id: str | None,
    recorded: RecordedOutputs,
    parent: Parent | None = None,
    joined: bool = False,
) -> NewState:
    """A state of this node with its inputs rendered. Raises CannotFollow.

    `recorded` holds the outputs to which the inputs refer, except those of `parent`.
    """
    try:
        inputs = _inputs(run, identifier, path, recorded, parent)
        inputs_json = payloads.dump(inputs)
        run.worker_namespace(run.plan.nodes[identifier].worker_namespace)  # it must exist
    except Exception as error:
        # Whatever it is, it is no failure of the state before, whose result must be recorded.
        if db_errors.passes(error):
            raise
        raise CannotFollow(identifier, error) from error
    return NewState(
        uuids.uuid7(), run, identifier, path, parent_id, inputs, inputs_json, joined=joined
    )


def _inputs(
    run: RunFacts,
    identifier: str,
    path: str,
    recorded: RecordedOutputs,
    parent: Parent | None,
) -> Json:
    """The inputs of a state, rendered."""
    budget = payloads.Budget()

    def value_of(reference: Reference) -> Json:
        value = found(reference)
        budget.spend(value)
        return value

    def found(reference: Reference) -> Json:
        if reference.source == "run":
            return references.dig(run.inputs, reference.path, reference)
        if reference.source == "store":
            store = {**run.plan.store_defaults, **run.store}
            return references.dig(store, reference.path, reference)
        if parent and parent[0] == reference.node:
            return references.dig(parent[1], reference.path, reference)
        return recorded.value(place_of(run, identifier, path, reference.node), reference)

    return run.plan.nodes[identifier].render(value_of)


# --- retries -------------------------------------------------------------------------------------


def _retry_of(outcome: Outcome) -> NewState | None:
    """The state that tries the step again after an error, if its retry policy allows one more."""
    state, policy = outcome.state, outcome.state.node.policy
    if state.retry_count >= policy.max_retries:
        return None
    retry_count = state.retry_count + 1
    return NewState(
        uuids.uuid7(),
        state.run,
        state.identifier,
        state.path,
        state.parent,
        state.inputs,
        payloads.dump(state.inputs, limit=sys.maxsize),  # they were stored before
        delay=retry_delay.delay(policy, retry_count) / 1000,
        retry_count=retry_count,
    )
