"""The JSON of runs that are addressed by thread id."""

from rest_framework.fields import Field

from graphs.api import strict as serializers
from graphs.api.serializers import AnyJson
from graphs.definition import errors
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.api.serializers import DelayedSerializer, LogLineSerializer, PriorityField
from runs.core.node_counts import BAD
from runs.models import Run


class StartThreadSerializer(DelayedSerializer):
    """`graph` is "namespace/name", or a name in the namespace.

    Without it an outside program executes the run: here it is only recorded and listed. With
    `enqueue`, or a delay, it waits in the queue for a program that claims it.
    """

    thread_id = serializers.CharField(max_length=200, required=False, allow_blank=False)
    sop = serializers.CharField(max_length=1_000_000, allow_blank=True)
    initial_data = serializers.DictField(child=AnyJson())
    run_name = serializers.CharField(max_length=500, required=False, allow_blank=True)
    graph = serializers.CharField(max_length=301, required=False)
    namespace = serializers.CharField(max_length=100, required=False)
    workspace = serializers.CharField(max_length=200, required=False, allow_blank=True)
    metadata = serializers.DictField(child=AnyJson(), required=False)
    priority = PriorityField(required=False)
    enqueue = serializers.BooleanField(required=False, default=False)

    def validate(self, attrs: JsonObject) -> JsonObject:
        """Raises Malformed for what only a run with a graph, or only one without, can have."""
        if attrs["enqueue"] and "graph" in attrs:
            raise errors.Malformed("`enqueue` is for runs without a graph.")
        if "priority" in attrs and "graph" not in attrs:
            raise errors.Malformed("`priority` is for runs of a graph.")
        return super().validate(attrs)


class StartedThreadSerializer(serializers.Serializer):
    status = serializers.CharField()
    thread_id = serializers.CharField()
    run_name = serializers.CharField()


class RerunSerializer(StartedThreadSerializer):
    parent_thread_id = serializers.CharField()
    rerun_count = serializers.IntegerField()


class RerunAskedSerializer(DelayedSerializer):
    """How to run a run again.

    `version` is the one that the run had or the graph's newest one. `inputs` replace those that the
    run had. `from` is `start`, `failed` (what failed and everything after it; the rest is taken
    over) or `node` (from the node that `node` names).

    With a `schedule`, a cron expression in `time_zone` (UTC by default), the whole run is rerun at
    each due time until somebody stops it.
    """

    inputs = serializers.DictField(child=AnyJson(), required=False)
    version = serializers.ChoiceField(("original", "newest"), required=False, default="original")
    node = serializers.CharField(max_length=200, required=False)
    schedule = serializers.CharField(max_length=200, required=False)
    time_zone = serializers.CharField(max_length=60, required=False)

    def get_fields(self) -> dict[str, Field]:
        """Adds `from`, which can't be the name of a class attribute."""
        choices = ("start", "failed", "node")
        start = serializers.ChoiceField(choices, required=False, default="start")
        return {**super().get_fields(), "from": start}

    def validate(self, attrs: JsonObject) -> JsonObject:
        """Raises Malformed for a node without `from: node`, and the other way round."""
        if (attrs["from"] == "node") != bool(attrs.get("node")):
            raise errors.Malformed("`node` is required with `from: node`, and only allowed there.")
        attrs = super().validate(attrs)
        if "schedule" not in attrs and "time_zone" in attrs:
            raise errors.Malformed("`time_zone` is that of a `schedule`; send both.")
        if "schedule" in attrs and (attrs["from"] != "start" or attrs["delay_seconds"]):
            raise errors.Malformed("On a `schedule` the whole run is rerun, at the due times.")
        return attrs


class MetadataSerializer(serializers.Serializer):
    thread_id = serializers.CharField()
    run_name = serializers.CharField()
    sop = serializers.CharField()
    initial_data = AnyJson()
    created_at = serializers.DateTimeField()
    parent_thread_id = serializers.CharField(allow_null=True)
    rerun_count = serializers.IntegerField()
    metadata = AnyJson()
    status = serializers.CharField()
    error_message = serializers.CharField(allow_null=True)
    failed_skill = serializers.CharField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)

    def to_representation(self, run: Run) -> JsonObject:
        failed = [node for node, counts in run.node_counts.items() if counts[BAD]]
        return {
            "thread_id": run.run_id,
            "run_name": run.name or run.run_id,
            "sop": run.sop,
            "initial_data": run.initial_data,
            "created_at": when(run.created_at),
            "parent_thread_id": run.parent.run_id if run.parent else None,
            "rerun_count": run.rerun_count,
            "metadata": run.metadata,
            "status": run.status,
            "error_message": run.error_message or None,
            "failed_skill": failed[0] if failed else None,
            "completed_at": when(run.finished_at),
        }


class ThreadLogsSerializer(serializers.Serializer):
    logs = LogLineSerializer(many=True)
    count = serializers.IntegerField()


class ApprovedSerializer(serializers.Serializer):
    status = serializers.CharField()
