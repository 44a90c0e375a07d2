"""The JSON of the queue of external runs."""

from graphs.api import strict as serializers
from graphs.api.serializers import AnyJson
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.engine.store import MAX_LEASE_SECONDS
from runs.external import queue
from runs.models import QueueEntry


class RunInQueueSerializer(serializers.Serializer):
    run_id = serializers.CharField()
    namespace = serializers.CharField()
    name = serializers.CharField()
    workspace = serializers.CharField()
    session_id = serializers.CharField()
    labels = AnyJson()
    status = serializers.CharField()
    parent_thread_id = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()

    def to_representation(self, entry: QueueEntry) -> JsonObject:
        run = entry.run
        return {
            "run_id": run.run_id,
            "namespace": run.namespace.name,
            "name": run.name,
            "workspace": run.workspace,
            "session_id": run.session_id,
            "labels": run.labels,
            "status": run.status,
            "parent_thread_id": run.parent.run_id if run.parent else None,
            "created_at": when(run.created_at),
        }


class QueuedRunSerializer(RunInQueueSerializer):
    """A run that waits since `available_at`; `lost_by` names the program that lost its lease."""

    available_at = serializers.DateTimeField()
    lost_by = serializers.CharField(allow_null=True)

    def to_representation(self, entry: QueueEntry) -> JsonObject:
        return {
            **super().to_representation(entry),
            "available_at": when(entry.available_at),
            "lost_by": entry.holder or None,
        }


class ClaimedRunSerializer(RunInQueueSerializer):
    """A run with what its program needs. `claim` is the number for heartbeats and reports."""

    claim = serializers.IntegerField()
    lease_seconds = serializers.FloatField()
    lease_expires_at = serializers.DateTimeField()
    sop = serializers.CharField()
    purpose = serializers.CharField()
    initial_data = AnyJson()
    store = AnyJson()
    metadata = AnyJson()

    def to_representation(self, entry: QueueEntry) -> JsonObject:
        run = entry.run
        return {
            **super().to_representation(entry),
            **lease(entry),
            "sop": run.sop,
            "purpose": run.purpose,
            "initial_data": run.initial_data,
            "store": run.store,
            "metadata": run.metadata,
        }


def lease(entry: QueueEntry) -> JsonObject:
    return {
        "claim": entry.claim,
        "lease_seconds": entry.lease_seconds,
        "lease_expires_at": when(entry.available_at),
    }


class QueueSerializer(serializers.Serializer):
    runs = QueuedRunSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class LeaseSecondsField(serializers.FloatField):
    def __init__(self) -> None:
        super().__init__(min_value=1, max_value=MAX_LEASE_SECONDS, required=False)


class ClaimRunsSerializer(serializers.Serializer):
    """The filters are those of the list; `worker` is the name of the process, beside the key's."""

    namespace = serializers.CharField(max_length=100, required=False)
    workspace = serializers.CharField(max_length=200, required=False)
    session = serializers.CharField(max_length=200, required=False)
    label = serializers.CharField(  # type: ignore[assignment]
        max_length=701, required=False
    )
    run_id = serializers.CharField(max_length=200, required=False)
    limit = serializers.IntegerField(
        min_value=1, max_value=queue.MAX_CLAIM, required=False, default=1
    )
    lease_seconds = LeaseSecondsField()
    worker = serializers.CharField(max_length=100, required=False)


class ClaimedRunsSerializer(serializers.Serializer):
    runs = ClaimedRunSerializer(many=True)


class HeldSerializer(serializers.Serializer):
    claim = serializers.IntegerField(min_value=1)


class HeartbeatSerializer(HeldSerializer):
    lease_seconds = LeaseSecondsField()


class LeaseSerializer(serializers.Serializer):
    """`status` tells that a person has paused the run."""

    run_id = serializers.CharField()
    status = serializers.CharField()
    claim = serializers.IntegerField()
    lease_seconds = serializers.FloatField()
    lease_expires_at = serializers.DateTimeField()


class ReleasedSerializer(serializers.Serializer):
    run_id = serializers.CharField()
    status = serializers.CharField()
