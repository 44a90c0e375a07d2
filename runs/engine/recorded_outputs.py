"""The recorded outputs to which the inputs of a new state refer: finding and reading them."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from graphs.definition import references
from graphs.definition.plan import Plan
from graphs.definition.references import Reference
from graphs.definition.topology import ROOT
from graphs.definition.types import Json
from runs.core import paths, sql
from runs.engine.types import RunFacts


class Place(NamedTuple):
    """Where states of a node are: exactly at a path, or at the path and everywhere below it."""

    run: int
    identifier: str
    path: str
    exact: bool


class Output(NamedTuple):
    path: str
    outputs_json: str


class RecordedOutputs:
    """The outputs of the succeeded states at some places, read in one statement."""

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self._outputs: dict[Place, list[Output]] = {place: [] for place in places}
        if self._outputs:
            self._read(list(self._outputs))

    def _read(self, places: list[Place]) -> None:
        table = [
            (at, place.run, place.identifier, place.path, _last_path(place))
            for at, place in enumerate(places)
        ]
        for at, path, outputs_json in sql.run(_outputs_statement(), sql.values(table)):
            self._outputs[places[at]].append(Output(path, outputs_json))
        for outputs in self._outputs.values():
            outputs.sort(key=lambda output: paths.order(output.path))

    def value(self, place: Place, reference: Reference) -> Json:
        """What the reference means for a state that may refer to this place.

        A list with an item for each state below the place, in fan-out order, if there is a fan-out
        between them; otherwise the value of the only state, or None if it has none. Raises
        Unresolved.
        """
        outputs = self._outputs.get(place, [])
        fanned_out = any(output.path != place.path for output in outputs)
        values = [
            references.dig(sql.loads(output.outputs_json), reference.path, reference)
            for output in outputs
            if not paths.is_empty(output.path)
        ]
        if not place.exact and fanned_out:
            return values
        return values[0] if values else None


@sql.statement
def _outputs_statement() -> str:
    """The outputs of the succeeded states at places, each with the number of its place.

    The path is a range of sm_state_of_run: everything below "2:0" lies between "2:0" and "2:0.~".
    """
    return f"""
        SELECT v.ord, s.path, s.outputs
        FROM {sql.rows("v", ord="int", run="bigint", identifier="text", first="text", last="text")}
        JOIN statemanager_runs_state s
          ON s.run_id = v.run AND s.identifier = v.identifier
         AND s.path >= v.first AND s.path <= v.last
         AND s.status = 'SUCCESS'
    """


def _last_path(place: Place) -> str:
    return place.path if place.exact else paths.last(place.path)


def places_of(run: RunFacts, identifier: str, path: str, known: str = "") -> Iterator[Place]:
    """The places that the inputs of a state of `identifier` at `path` refer to.

    The outputs of node `known` are at hand and left out.
    """
    for reference in run.plan.nodes[identifier].needs:
        if reference.source == "node" and reference.node != known:
            yield place_of(run, identifier, path, reference.node)


def place_of(run: RunFacts, identifier: str, path: str, wanted: str) -> Place:
    """Where the states of node `wanted` are to which a state of `identifier` at `path` may refer.

    If `wanted` dominates `identifier`, that is one state; otherwise all of its states below the
    nearest dominator that both share.
    """
    plan = run.plan
    shared = plan.shape.dominator[identifier]
    while shared not in (ROOT, wanted) and shared not in plan.shape.ancestors[wanted]:
        shared = plan.shape.dominator[shared]
    return Place(run.pk, wanted, paths.trim(path, fan_outs_above(plan, shared)), shared == wanted)


@dataclass(frozen=True, slots=True)
class _Indexes:
    """The indexes of some nodes, as text, and the branches of the run.

    The mask has a bit for each index.
    """

    mask: int

    def __contains__(self, index: object) -> bool:
        text = str(index)
        return text == paths.BRANCH or (text.isdecimal() and bool(self.mask >> int(text) & 1))


def fan_outs_above(plan: Plan, node: str) -> Container[str]:
    """The indexes, as text, that a path below this node may begin with.

    These are the node itself, its ancestors, and the branches of the run.
    """
    known = plan.fan_outs.get(node)
    if known is None:
        mask = 0
        if node != ROOT:
            mask = plan.shape.ancestors[node].mask | 1 << plan.nodes[node].index
        known = plan.fan_outs[node] = _Indexes(mask)
    return known
