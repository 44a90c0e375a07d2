"""What outside programs store with their runs: results of tools, and LangGraph checkpoints."""

from typing import ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone


class ToolResult(models.Model):
    """The recorded result of a tool call, which is never computed a second time.

    `key` is run_id:step:tool:args_hash, and `digest` the hash of the key that is indexed.
    """

    run = models.ForeignKey(
        "statemanager_runs.Run", on_delete=models.CASCADE, related_name="tool_results"
    )
    key = models.CharField(max_length=1500)
    digest = models.CharField(max_length=64)
    result = models.JSONField(default=None, null=True, blank=True, encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "tool result"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "digest"], name="sm_tool_result_once")
        ]

    def __str__(self) -> str:
        return self.key


class Checkpoint(models.Model):
    """A checkpoint of a thread, as LangGraph serializes it.

    `ns` is LangGraph's checkpoint namespace. Ids sort by time. Checkpoints in the namespace
    `:run-state` are run documents (`runs.external.documents`).
    """

    run = models.ForeignKey(
        "statemanager_runs.Run",
        on_delete=models.CASCADE,
        related_name="checkpoints",
        db_index=False,
    )
    ns = models.CharField(max_length=1500, blank=True)
    checkpoint_id = models.CharField(max_length=100)
    parent_checkpoint_id = models.CharField(max_length=100, blank=True)
    type = models.CharField(max_length=50)
    body = models.BinaryField()
    metadata = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder)
    versions = models.JSONField(
        default=dict,
        blank=True,
        help_text="The version of each channel, as text; blobs have the values.",
    )
    pending = models.CharField(
        max_length=500,
        blank=True,
        default="",
        help_text="The nodes that run next, separated by commas.",
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["run", "ns", "checkpoint_id"], name="sm_checkpoint_once"
            )
        ]

    def __str__(self) -> str:
        return self.checkpoint_id


class CheckpointBlob(models.Model):
    """The value of a channel at a version. Checkpoints share the values that did not change."""

    run = models.ForeignKey(
        "statemanager_runs.Run",
        on_delete=models.CASCADE,
        related_name="checkpoint_blobs",
        db_index=False,
    )
    ns = models.CharField(max_length=1500, blank=True)
    channel = models.CharField(max_length=500)
    version = models.CharField(max_length=200)
    type = models.CharField(max_length=50)
    body = models.BinaryField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["run", "ns", "channel", "version"], name="sm_checkpoint_blob_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.channel} {self.version}"


class CheckpointWrite(models.Model):
    """A write that a task made after a checkpoint.

    LangGraph orders them by (task_path, task_id, idx).
    """

    run = models.ForeignKey(
        "statemanager_runs.Run",
        on_delete=models.CASCADE,
        related_name="checkpoint_writes",
        db_index=False,
    )
    ns = models.CharField(max_length=1500, blank=True)
    checkpoint_id = models.CharField(max_length=100)
    task_id = models.CharField(max_length=200)
    task_path = models.TextField(blank=True)
    idx = models.IntegerField()
    channel = models.CharField(max_length=500)
    type = models.CharField(max_length=50)
    body = models.BinaryField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["run", "ns", "checkpoint_id", "task_id", "idx"],
                name="sm_checkpoint_write_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.channel} of {self.task_id}"
