"""The JSON of runs and log lines."""

from typing import Any, cast

from django.urls import reverse
from rest_framework.exceptions import ValidationError

from graphs.api import strict as serializers
from graphs.api.serializers import AnyJson, LabelsField
from graphs.definition import errors
from graphs.definition.payloads import when
from graphs.definition.schema import MAX_PRIORITY, MIN_PRIORITY
from graphs.definition.types import Json, JsonObject
from runs.core import statuses
from runs.engine import concurrency
from runs.engine.new_run import RunOptions
from runs.engine.start_many import MAX_RUNS
from runs.models import Artifact, LogLine, Run
from runs.queries.run_context import context_of

TAIL_LINES = 50  # the log lines that are part of a run's JSON
MAX_START_DELAY = 315_360_000_000  # milliseconds: ten years


class PriorityField(serializers.IntegerField):
    """Which runs of the namespace go first; by default that of the graph, or 0."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=MIN_PRIORITY, max_value=MAX_PRIORITY, **options)


class TimeLimitField(serializers.IntegerField):
    """Milliseconds, at most ten years; by default what the settings of the graph say."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=1, max_value=MAX_START_DELAY, required=False, **options)


class DelayedSerializer(serializers.Serializer):
    """What may start later. `delay_seconds` is what was sent, under either name."""

    start_delay_ms = serializers.IntegerField(
        min_value=0, max_value=MAX_START_DELAY, required=False
    )
    start_delay = serializers.IntegerField(
        min_value=0,
        max_value=MAX_START_DELAY,
        required=False,
        help_text="The older name of `start_delay_ms`, which `/v0` has.",
    )

    def validate(self, attrs: JsonObject) -> JsonObject:
        """Raises Malformed if both names are used."""
        delays = [attrs.pop(name) for name in ("start_delay_ms", "start_delay") if name in attrs]
        if len(delays) > 1:
            raise errors.Malformed("`start_delay` is the older name of `start_delay_ms`; send one.")
        return {**attrs, "delay_seconds": sum(delays) / 1000}


class StartSerializer(DelayedSerializer):
    """What a run may start with. `inputs` override the inputs that root nodes declare."""

    run_id = serializers.CharField(max_length=200, required=False, allow_blank=False)
    inputs = serializers.DictField(child=AnyJson(), required=False)
    store = serializers.DictField(child=AnyJson(), required=False)
    labels = LabelsField(required=False)
    metadata = serializers.DictField(child=AnyJson(), required=False)
    name = serializers.CharField(max_length=500, required=False, allow_blank=True)
    workspace = serializers.CharField(max_length=200, required=False, allow_blank=True)
    priority = PriorityField(required=False)
    timeout_ms = TimeLimitField(help_text="How long the run may take from its start.")
    start_by_ms = TimeLimitField(help_text="How long the run may wait for its start.")


class StartedSerializer(serializers.Serializer):
    id = serializers.CharField()
    status = serializers.CharField()
    message = serializers.CharField()

    def to_representation(self, run: Run) -> JsonObject:
        is_skipped = concurrency.is_skipped(run)
        queued = f"Graph execution queued with task ID: {run.run_id}"
        return {
            "id": run.run_id,
            "status": run.status,
            "message": run.error_message if is_skipped else queued,
        }


def options_of(values: JsonObject) -> RunOptions:
    """The options that a StartSerializer has validated."""
    limits = {
        name: values.pop(f"{name}_ms") / 1000
        for name in ("timeout", "start_by")
        if f"{name}_ms" in values
    }
    return RunOptions(delay=values.pop("delay_seconds"), **limits, **values)


class StartsField(serializers.ListField):
    """What 1 to 10,000 runs start with."""

    child = StartSerializer()

    def to_internal_value(self, data: Json) -> list[JsonObject]:
        """Raises ValidationError. DRF would look at the length after it has checked the items."""
        if isinstance(data, list) and len(data) > MAX_RUNS:
            raise ValidationError(
                f"{len(data):,} runs can't start at once; {MAX_RUNS:,} are allowed."
            )
        return cast(list[JsonObject], super().to_internal_value(data))


class StartManySerializer(serializers.Serializer):
    runs = StartsField(allow_empty=False)


class StartedManySerializer(serializers.Serializer):
    runs = StartedSerializer(many=True)


class LineSerializer(serializers.Serializer):
    timestamp = serializers.DateTimeField()
    level = serializers.CharField()
    message = serializers.CharField()

    def to_representation(self, line: LogLine) -> JsonObject:
        return {"timestamp": when(line.created_at), "level": line.level, "message": line.message}


class LogLineSerializer(LineSerializer):
    id = serializers.IntegerField()
    node = serializers.CharField(allow_null=True)
    state_id = serializers.CharField(allow_null=True)
    attempt = serializers.IntegerField()

    def to_representation(self, line: LogLine) -> JsonObject:
        return {
            **super().to_representation(line),
            "id": line.pk,
            "node": line.identifier or None,
            "state_id": str(line.state) if line.state else None,
            "attempt": line.attempt,
        }


class LogPageSerializer(serializers.Serializer):
    logs = LogLineSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class RunSerializer(serializers.Serializer):
    """A run. `progress` is 0–100; `logs` are its last lines; `stats` is null until it ends.

    The run comes from `RunQuerySet.for_wire`, and its last lines from the context: `tails`, by the
    run's primary key.
    """

    id = serializers.CharField()
    graph_id = serializers.CharField(allow_null=True)
    dataset_id = serializers.IntegerField(allow_null=True)
    status = serializers.ChoiceField(statuses.RUN_STATUSES)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    progress = serializers.IntegerField()
    current_node = serializers.CharField(allow_null=True)
    context = AnyJson()  # type: ignore[assignment]
    logs = LineSerializer(many=True)
    stats = AnyJson()
    error_message = serializers.CharField(allow_null=True)
    name = serializers.CharField()
    namespace = serializers.CharField()
    labels = AnyJson()
    priority = serializers.IntegerField()
    revision = serializers.IntegerField()
    created_at = serializers.DateTimeField()

    def to_representation(self, run: Run) -> JsonObject:
        tail = self._context["tails"][run.pk]  # `self.context` is a field here
        return {
            "id": run.run_id,
            "graph_id": str(run.graph_id) if run.graph_id else None,
            "dataset_id": run.dataset_id,
            "status": run.status,
            "started_at": when(run.started_at),
            "finished_at": when(run.finished_at),
            "progress": run.progress,
            "current_node": run.current_node or None,
            "context": run_context(run),
            "logs": LineSerializer(tail, many=True).data,
            "stats": run_stats(run) if run.ended else None,
            "error_message": run.error_message or None,
            "name": run.name or run.run_id,
            "namespace": run.namespace.name,
            "labels": run.labels,
            "priority": run.priority,
            "revision": run.revision,
            "created_at": when(run.created_at),
        }


class RunPageSerializer(serializers.Serializer):
    """A page of runs. `notices` say which words of a search were searched as text."""

    runs = RunSerializer(many=True)
    next = serializers.CharField(allow_null=True)
    notices = serializers.ListField(child=serializers.CharField())


# Columns that may be large, and that lists of runs don't show.
NOT_SHOWN = ("initial_data", "store", "metadata", "data", "sop", "purpose", "action_history")


def artifact_url(run: Run, artifact: Artifact) -> str:
    return reverse("artifact-detail", args=[run.run_id, artifact.pk])


def run_context(run: Run) -> JsonObject:
    """The run's context; that of an ended one with the address of its zip file."""
    context = context_of(run)
    if context and run.ended:
        zip_files = [file for file in getattr(run, "files", ()) if file.name.endswith(".zip")]
        context["zip_path"] = artifact_url(run, zip_files[-1]) if zip_files else None
    return context


def run_stats(run: Run) -> JsonObject:
    """The numbers of states, and the seconds from the run's start to its end."""
    seconds = 0.0
    if run.finished_at and run.started_at:
        seconds = (run.finished_at - run.started_at).total_seconds()
    ended = run.success_count + run.errored_count + run.retried_count + run.cancelled_count
    return {
        "states": run.pending_count + ended,
        "succeeded": run.success_count,
        "failed": run.errored_count,
        "retried": run.retried_count,
        "cancelled": run.cancelled_count,
        "emitted": run.emitted,
        "duration_seconds": round(seconds, 3),
    }
