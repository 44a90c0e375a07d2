"""The JSON of runs and what is below them (contract of seed 004), and the serializers that read and document it."""

from collections.abc import Iterable
from typing import Any

from django.urls import reverse
from rest_framework import serializers

from graphs.api.serializers import AnyJson
from graphs.definition.payloads import when
from runs.core import statuses
from runs.core.node_counts import BAD, DONE, KNOWN
from runs.models import Artifact, LogLine, Run, State

TAIL_LINES = 50


class StartShape(serializers.Serializer):
    """What a run may be given. `inputs` override the inputs that root nodes declare; `start_delay` is in milliseconds."""

    run_id = serializers.CharField(max_length=200, required=False, allow_blank=False)
    inputs = serializers.DictField(child=AnyJson(), required=False)
    store = serializers.DictField(child=AnyJson(), required=False)
    labels = serializers.DictField(
        child=serializers.CharField(max_length=500, allow_blank=True), required=False
    )
    metadata = serializers.DictField(child=AnyJson(), required=False)
    name = serializers.CharField(max_length=500, required=False, allow_blank=True)
    workspace = serializers.CharField(max_length=200, required=False, allow_blank=True)
    start_delay = serializers.IntegerField(min_value=0, max_value=315_360_000_000, required=False)


class StartedShape(serializers.Serializer):
    id = serializers.CharField()
    status = serializers.CharField()
    message = serializers.CharField()


class LineShape(serializers.Serializer):
    timestamp = serializers.DateTimeField()
    level = serializers.CharField()
    message = serializers.CharField()


class RunShape(serializers.Serializer):
    """A run as its page shows it. `progress` is 0–100; `logs` are its last lines; `stats` is null until it ends."""

    id = serializers.CharField()
    graph_id = serializers.CharField(allow_null=True)
    dataset_id = serializers.IntegerField(allow_null=True)
    status = serializers.ChoiceField(statuses.RUN_STATUSES)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    progress = serializers.IntegerField()
    current_node = serializers.CharField(allow_null=True)
    context = AnyJson()  # type: ignore[assignment]
    logs = LineShape(many=True)
    stats = AnyJson()
    error_message = serializers.CharField(allow_null=True)
    name = serializers.CharField()
    namespace = serializers.CharField()
    labels = AnyJson()
    revision = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class StateShape(serializers.Serializer):
    """One execution of a node. `parent` is the state whose outputs made it; `waiting_for` the question to a person."""

    id = serializers.CharField()
    identifier = serializers.CharField()
    node_name = serializers.CharField()
    status = serializers.ChoiceField(statuses.STATE_STATUSES)
    path = serializers.CharField()
    parent = serializers.CharField(allow_null=True)  # type: ignore[assignment]
    attempt = serializers.IntegerField()
    retry_count = serializers.IntegerField()
    inputs = AnyJson()
    outputs = AnyJson()
    error = serializers.CharField(allow_null=True)
    waiting_for = AnyJson()
    answer = AnyJson()
    progress = serializers.FloatField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class StatePageShape(serializers.Serializer):
    states = StateShape(many=True)
    next = serializers.CharField(allow_null=True)


class LogLineShape(LineShape):
    id = serializers.IntegerField()
    node = serializers.CharField(allow_null=True)
    state_id = serializers.CharField(allow_null=True)
    attempt = serializers.IntegerField()


class LogPageShape(serializers.Serializer):
    logs = LogLineShape(many=True)
    next = serializers.CharField(allow_null=True)


class ArtifactShape(serializers.Serializer):
    id = serializers.IntegerField()
    name = serializers.CharField()
    node = serializers.CharField()
    kind = serializers.CharField()
    size = serializers.IntegerField()
    checksum = serializers.CharField()
    url = serializers.CharField()
    created_at = serializers.DateTimeField()


class ArtifactsShape(serializers.Serializer):
    artifacts = ArtifactShape(many=True)


def started_shape(run: Run) -> dict[str, Any]:
    return {
        "id": run.run_id,
        "status": run.status,
        "message": f"Graph execution queued with task ID: {run.run_id}",
    }


def run_shape(run: Run, tail: Iterable[LogLine]) -> dict[str, Any]:
    """`run` comes from `RunQuerySet.for_wire`."""
    return {
        "id": run.run_id,
        "graph_id": str(run.graph_id) if run.graph_id else None,
        "dataset_id": run.dataset_id,
        "status": run.status,
        "started_at": when(run.started_at),
        "finished_at": when(run.finished_at),
        "progress": run.progress,
        "current_node": run.current_node or None,
        "context": context(run),
        "logs": [line_shape(line) for line in tail],
        "stats": stats(run) if run.ended else None,
        "error_message": run.error_message or None,
        "name": run.name or run.run_id,
        "namespace": run.namespace.name,
        "labels": run.labels,
        "revision": run.revision,
        "created_at": when(run.created_at),
    }


def context(run: Run) -> dict[str, Any]:
    """Seed 004's context: the plan and what became of it; empty while the run is queued."""
    if run.version is None or run.status == statuses.RUN_QUEUED:
        return {}
    plan, node_counts = run.version.plan, run.node_counts
    failed = [node for node in plan.order if node in node_counts and node_counts[node][BAD]]
    broken = set(failed)
    context: dict[str, Any] = {
        "dataset_id": run.dataset_id,
        "graph_id": str(run.graph_id),
        "plan": list(plan.order),
        "total_steps": len(plan.order),
        "executed_nodes": [
            node
            for node in plan.order
            if node in node_counts
            and node not in broken
            and node_counts[node][DONE] == node_counts[node][KNOWN]
        ],
        "failed_nodes": failed,
        "skipped_nodes": [
            node
            for node in plan.order
            if node not in node_counts and plan.shape.ancestors[node] & broken
        ],
    }
    if run.ended:
        context["total_emitted"] = run.emitted
        zips = [file for file in getattr(run, "files", ()) if file.name.endswith(".zip")]
        context["zip_path"] = artifact_url(run, zips[-1]) if zips else None
    return context


def stats(run: Run) -> dict[str, Any]:
    """Counts of states, and seconds from the start to the end."""
    seconds = (
        (run.finished_at - run.started_at).total_seconds()
        if run.finished_at and run.started_at
        else 0.0
    )
    return {
        "states": run.pending_count
        + run.success_count
        + run.errored_count
        + run.retried_count
        + run.cancelled_count,
        "succeeded": run.success_count,
        "failed": run.errored_count,
        "retried": run.retried_count,
        "cancelled": run.cancelled_count,
        "emitted": run.emitted,
        "duration_seconds": round(seconds, 3),
    }


def line_shape(line: LogLine) -> dict[str, Any]:
    return {"timestamp": when(line.created_at), "level": line.level, "message": line.message}


def log_line_shape(line: LogLine) -> dict[str, Any]:
    state = str(line.state) if line.state else None
    return {
        **line_shape(line),
        "id": line.pk,
        "node": line.identifier or None,
        "state_id": state,
        "attempt": line.attempt,
    }


def state_shape(state: State) -> dict[str, Any]:
    return {
        "id": str(state.pk),
        "identifier": state.identifier,
        "node_name": state.node,
        "status": state.status,
        "path": state.path,
        "parent": str(state.parent) if state.parent else None,
        "attempt": state.attempt,
        "retry_count": state.retry_count,
        "inputs": state.inputs,
        "outputs": state.outputs,
        "error": state.error or None,
        "waiting_for": state.waiting_for,
        "answer": state.answer,
        "progress": state.progress,
        "created_at": when(state.created_at),
        "started_at": when(state.started_at),
        "finished_at": when(state.finished_at),
    }


def artifact_url(run: Run, artifact: Artifact) -> str:
    return reverse("artifact", args=[run.run_id, artifact.pk])


def artifact_shape(run: Run, artifact: Artifact) -> dict[str, Any]:
    return {
        "id": artifact.pk,
        "name": artifact.name,
        "node": artifact.identifier,
        "kind": artifact.kind,
        "size": artifact.size,
        "checksum": artifact.checksum,
        "url": artifact_url(run, artifact),
        "created_at": when(artifact.created_at),
    }
