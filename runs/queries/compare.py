"""Comparing two runs: what they were given, what their nodes did, and where they part."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice

from graphs.definition import errors, redaction
from graphs.definition.differences import MAX_DIFFERENCES, Difference, differences, some_differences
from graphs.definition.labels import MAX_LABELS
from graphs.definition.types import Json
from runs.core import statuses
from runs.engine.node_context import run_folder
from runs.external import documents
from runs.models import Run, State

MAX_STATES = 5_000
MAX_BYTES = 64 * 2**20  # that both runs store, if payloads are compared
SAME_DURATION_SECONDS = 0.05
_COLUMNS = (
    "identifier",
    "status",
    "started_at",
    "finished_at",
    "retry_count",
    "error",
    "outputs",
)


@dataclass
class NodeSide:
    """What a node did in one of the runs.

    `statuses` counts its states, `took` adds up their durations, `outputs` are in the order of the
    paths, and `error` is the first one.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    took: timedelta = timedelta()
    outputs: list[Json] = field(default_factory=list)
    attempts: int = 0
    error: str = ""

    @property
    def verdict(self) -> str:
        """failed, unfinished, completed, cancelled or not reached."""
        if self._has(*statuses.FAILED_STATES):
            return "failed"
        if self._has(*statuses.UNFINISHED):
            return "unfinished"
        if self._has(statuses.SUCCESS, statuses.PRUNED):
            return "completed"
        return "cancelled" if self.statuses else "not reached"

    def _has(self, *wanted: str) -> bool:
        return any(self.statuses[status] for status in wanted)


@dataclass(frozen=True)
class NodePair:
    """What a node did in both runs."""

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


MetadataRow = tuple[str, object, object, bool]  # name, value in a, value in b, whether they differ


@dataclass(frozen=True)
class Comparison:
    """`summary` is a list of sentences; `divergence` is the first node, in the order of the plan,
    that did something else."""

    summary: Sequence[str]
    metadata: Sequence[MetadataRow]
    inputs: Sequence[Difference]
    definition: Sequence[Difference]
    nodes: Sequence[NodePair]
    divergence: NodePair | None


def compare(a: Run, b: Run, payloads: bool = True) -> Comparison:
    """Compare two runs. Without `payloads`, inputs, outputs and errors are hidden.

    Raises TooLarge if payloads are compared and the runs store more than MAX_BYTES together.
    """
    stored = documents.payload_bytes(a) + documents.payload_bytes(b)
    if payloads and stored > MAX_BYTES:
        raise errors.TooLarge(
            f"The runs store {stored:,} bytes together; at most {MAX_BYTES:,} are compared."
        )
    nodes = _node_pairs(a, b, payloads)
    divergence = next((pair for pair in nodes if not pair.same), None)
    inputs = some_differences(
        redaction.shown(a.initial_data, payloads), redaction.shown(b.initial_data, payloads)
    )
    return Comparison(
        summary=_summary(a, b, inputs, divergence, payloads),
        metadata=_metadata(a, b),
        inputs=inputs,
        definition=_definition(a, b),
        nodes=nodes,
        divergence=divergence,
    )


def _definition(a: Run, b: Run) -> Sequence[Difference]:
    if not (a.version and b.version) or a.version_id == b.version_id:
        return []
    return some_differences(
        redaction.shown(a.version.definition), redaction.shown(b.version.definition)
    )


# --- nodes ----------------------------------------------------------------------------------------


def _node_pairs(a: Run, b: Run, payloads: bool) -> list[NodePair]:
    sides_of_a = _sides(a, payloads)
    sides_of_b = _sides(b, payloads)
    order = dict.fromkeys([*_order(a), *_order(b), *sides_of_a, *sides_of_b])
    pairs = []
    for node in order:
        side_a = sides_of_a.get(node, NodeSide())
        side_b = sides_of_b.get(node, NodeSide())
        difference = next(differences(side_a.outputs, side_b.outputs), None)
        pairs.append(NodePair(node, side_a, side_b, same_outputs=difference is None))
    return pairs


def _order(run: Run) -> Sequence[str]:
    return run.version.plan.order if run.version else ()


def _sides(run: Run, payloads: bool) -> dict[str, NodeSide]:
    """What each node did in the run, read from its first MAX_STATES states."""
    sides: dict[str, NodeSide] = {}
    folder = f"{run_folder(run.pk)}/"
    states = State.objects.filter(run=run).exclude(status=statuses.RETRY_CREATED)
    rows = states.order_by("path", "pk").values_list(*_COLUMNS)[:MAX_STATES]
    for row in rows.iterator(chunk_size=500):
        identifier, status, started_at, finished_at, retry_count, error, outputs = row
        side = sides.setdefault(identifier, NodeSide())
        side.statuses[status] += 1
        side.attempts += retry_count + 1
        if payloads:
            side.outputs.append(_without_folder(outputs, folder))
            side.error = side.error or error
        if started_at and finished_at:
            side.took += finished_at - started_at
    return sides


def _without_folder(value: Json, folder: str) -> Json:
    """The value with paths in the run's folder replaced by file names.

    The folder differs between any two runs, and is no difference in what they did.
    """
    if isinstance(value, str):
        return value.rpartition("/")[2] if value.startswith(folder) else value
    if isinstance(value, dict):
        return {key: _without_folder(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folder(item, folder) for item in value]
    return value


# --- metadata -------------------------------------------------------------------------------------


def _metadata(a: Run, b: Run) -> list[MetadataRow]:
    values_of_a = _metadata_of(a)
    values_of_b = _metadata_of(b)
    return [
        (name, value, values_of_b[name], value != values_of_b[name])
        for name, value in values_of_a.items()
    ]


def _metadata_of(run: Run) -> dict[str, object]:
    return {
        "Status": run.status,
        "Graph": str(run.graph or "none"),
        "Version": run.version.number if run.version else None,
        "Dataset": str(run.dataset or "none"),
        "Namespace": run.namespace.name,
        "Workspace": run.workspace,
        "User": run.username,
        "Trigger": run.trigger,
        "Labels": " ".join(
            f"{key}={value}" for key, value in islice(run.labels.items(), MAX_LABELS)
        ),
        "States": run.state_count,
        "Failed states": run.errored_count,
        "Rows emitted": run.emitted,
    }


# --- the summary ----------------------------------------------------------------------------------


def _summary(
    a: Run, b: Run, inputs: Sequence[Difference], divergence: NodePair | None, payloads: bool
) -> list[str]:
    sentences = [
        _graphs_sentence(a, b),
        _inputs_sentence(inputs, payloads),
        _divergence_sentence(divergence),
    ]
    if a.started_at and a.finished_at and b.started_at and b.finished_at:
        duration_of_a = a.finished_at - a.started_at
        duration_of_b = b.finished_at - b.started_at
        sentences.append(_duration_sentence(duration_of_b - duration_of_a))
    return sentences


def _graphs_sentence(a: Run, b: Run) -> str:
    if a.graph_id != b.graph_id:
        return f"Different graphs: {a.graph or 'none'} and {b.graph or 'none'}."
    if a.graph is None or not (a.version and b.version):
        return "Neither has a graph."
    if a.version_id == b.version_id:
        return f"Same graph, version {a.version.number}."
    return f"Same graph, version {a.version.number} → {b.version.number}."


def _inputs_sentence(inputs: Sequence[Difference], payloads: bool) -> str:
    if not payloads:
        return "You may not see the inputs."
    if not inputs:
        return "The inputs are the same."
    more = "+" if len(inputs) == MAX_DIFFERENCES else ""
    return f"{len(inputs)}{more} inputs differ."


def _divergence_sentence(divergence: NodePair | None) -> str:
    if divergence is None:
        return "Every node did the same."
    if divergence.a.verdict == divergence.b.verdict:
        how = "other outputs"
    else:
        how = f"{divergence.a.verdict} vs {divergence.b.verdict}"
    error = (divergence.b.error or divergence.a.error).split("\n")[0][:200]
    why = f" ({error})" if error else ""
    return f"They part at {divergence.node}: {how}{why}."


def _duration_sentence(gap: timedelta) -> str:
    seconds = gap.total_seconds()
    if abs(seconds) < SAME_DURATION_SECONDS:
        return "Both took equally long."
    return f"The second took {abs(seconds):.1f} s {'longer' if seconds > 0 else 'less'}."
