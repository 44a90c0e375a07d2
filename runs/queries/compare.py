"""Two runs side by side: what they were given, what each node made of it, and where they part, in words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from graphs.definition import redaction
from graphs.definition.differences import MAX_DIFFERENCES, Difference, differences, some_differences
from runs.core import statuses
from runs.engine.node_context import run_folder
from runs.models import Run, State

MOST_STATES = 5_000


@dataclass
class NodeSide:
    """What a node did in one run: its states by status, how long they ran together, its outputs in the order of their places, an error."""

    statuses: Counter[str] = field(default_factory=Counter)
    took: timedelta = timedelta()
    outputs: list[Any] = field(default_factory=list)
    attempts: int = 0
    error: str = ""

    @property
    def verdict(self) -> str:
        """In one word: failed, completed, unfinished, cancelled, or not reached."""
        if any(self.statuses[word] for word in statuses.FAILED_STATES):
            return "failed"
        if any(self.statuses[word] for word in statuses.UNFINISHED):
            return "unfinished"
        if self.statuses[statuses.SUCCESS] or self.statuses[statuses.PRUNED]:
            return "completed"
        return "cancelled" if self.statuses else "not reached"


@dataclass(frozen=True)
class NodePair:
    node: str
    a: NodeSide
    b: NodeSide
    same_outputs: bool

    @property
    def same(self) -> bool:
        return (
            self.same_outputs
            and self.a.verdict == self.b.verdict
            and self.a.statuses == self.b.statuses
        )


@dataclass(frozen=True)
class Comparison:
    """`summary` in sentences; `metadata` as (name, a, b, whether they differ); `divergence` is the first node, in the plan's order, that differs."""

    summary: Sequence[str]
    metadata: Sequence[tuple[str, Any, Any, bool]]
    inputs: Sequence[Difference]
    definition: Sequence[Difference]
    nodes: Sequence[NodePair]
    divergence: NodePair | None


def compare(a: Run, b: Run, payloads: bool = True) -> Comparison:
    """Compare two runs; without `payloads` their inputs and outputs are not shown."""
    sides = _nodes(a, payloads), _nodes(b, payloads)
    order = dict.fromkeys([*_order(a), *_order(b), *sides[0], *sides[1]])
    pairs = [
        _pair(node, sides[0].get(node, NodeSide()), sides[1].get(node, NodeSide()))
        for node in order
    ]
    divergence = next((pair for pair in pairs if not pair.same), None)
    given = [redaction.shown(run.initial_data, payloads) for run in (a, b)]
    inputs = some_differences(*given)
    other = a.version and b.version and a.version_id != b.version_id
    definition = (
        some_differences(
            *(redaction.shown(run.version.definition) for run in (a, b) if run.version)
        )
        if other
        else []
    )
    return Comparison(
        _summary(a, b, inputs, divergence, payloads),
        _metadata(a, b),
        inputs,
        definition,
        pairs,
        divergence,
    )


def _order(run: Run) -> Sequence[str]:
    return run.version.plan.order if run.version else ()


def _nodes(run: Run, payloads: bool) -> dict[str, NodeSide]:
    found: dict[str, NodeSide] = {}
    folder = f"{run_folder(run.pk)}/"
    states = (
        State.objects.filter(run=run).exclude(status=statuses.RETRY_CREATED).order_by("path", "pk")
    )
    columns = (
        "identifier",
        "status",
        "started_at",
        "finished_at",
        "retry_count",
        "error",
        "outputs",
    )
    for identifier, status, started, finished, retried, error, outputs in states.values_list(
        *columns
    )[:MOST_STATES].iterator(chunk_size=500):
        side = found.setdefault(identifier, NodeSide())
        side.statuses[status] += 1
        side.attempts += retried + 1
        if payloads:
            side.outputs.append(_without_places(outputs, folder))
        side.error = side.error or error
        if started and finished:
            side.took += finished - started
    return found


def _without_places(value: Any, folder: str) -> Any:
    """The value with the run's own files as their names: where they lie differs between any two runs."""
    if isinstance(value, str):
        return value.rpartition("/")[2] if value.startswith(folder) else value
    if isinstance(value, dict):
        return {key: _without_places(each, folder) for key, each in value.items()}
    return [_without_places(each, folder) for each in value] if isinstance(value, list) else value


def _pair(node: str, a: NodeSide, b: NodeSide) -> NodePair:
    return NodePair(node, a, b, next(differences(a.outputs, b.outputs), None) is None)


def _metadata(a: Run, b: Run) -> list[tuple[str, Any, Any, bool]]:
    def row(name: str, one: Any, other: Any) -> tuple[str, Any, Any, bool]:
        return name, one, other, one != other

    return [
        row("Status", a.status, b.status),
        row("Graph", str(a.graph or "none"), str(b.graph or "none")),
        row(
            "Version",
            a.version.number if a.version else None,
            b.version.number if b.version else None,
        ),
        row("Dataset", str(a.dataset or "none"), str(b.dataset or "none")),
        row("Namespace", a.namespace.name, b.namespace.name),
        row("Workspace", a.workspace, b.workspace),
        row("User", a.username, b.username),
        row("Trigger", a.trigger, b.trigger),
        row("Labels", _labels(a), _labels(b)),
        row("States", _states(a), _states(b)),
        row("Failed states", a.errored_count, b.errored_count),
        row("Rows emitted", a.emitted, b.emitted),
    ]


def _labels(run: Run) -> str:
    return " ".join(f"{key}={value}" for key, value in run.labels.items())


def _states(run: Run) -> int:
    return (
        run.pending_count
        + run.success_count
        + run.errored_count
        + run.retried_count
        + run.cancelled_count
    )


def _summary(
    a: Run, b: Run, inputs: Sequence[Difference], divergence: NodePair | None, payloads: bool
) -> list[str]:
    said = [_graphs(a, b)]
    said.append(
        "You may not see the inputs."
        if not payloads
        else "The inputs are the same."
        if not inputs
        else f"{len(inputs)}{'+' if len(inputs) == MAX_DIFFERENCES else ''} inputs differ."
    )
    if divergence is None:
        said.append("Every node did the same.")
    else:
        why = next(
            (f" ({error})" for error in (divergence.b.error, divergence.a.error) if error), ""
        ).split("\n")[0][:200]
        verdicts = (
            f"{divergence.a.verdict} vs {divergence.b.verdict}"
            if divergence.a.verdict != divergence.b.verdict
            else "other outputs"
        )
        said.append(f"They part at {divergence.node}: {verdicts}{why}.")
    if a.started_at and a.finished_at and b.started_at and b.finished_at:
        gap = ((b.finished_at - b.started_at) - (a.finished_at - a.started_at)).total_seconds()
        said.append(
            f"The second took {abs(gap):.1f} s {'longer' if gap > 0 else 'less'}."
            if abs(gap) >= 0.05
            else "Both took equally long."
        )
    return said


def _graphs(a: Run, b: Run) -> str:
    if a.graph_id != b.graph_id:
        return f"Different graphs: {a.graph or 'none'} and {b.graph or 'none'}."
    if a.graph is None or not (a.version and b.version):
        return "Neither has a graph."
    same = a.version_id == b.version_id
    return (
        f"Same graph, version {a.version.number}."
        if same
        else f"Same graph, version {a.version.number} → {b.version.number}."
    )
