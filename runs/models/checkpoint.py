"""What an outside program leaves with its run: the results of its tools, and the checkpoints of a LangGraph thread."""

from typing import ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone


class ToolResult(models.Model):
    """The recorded result of a tool call. `key` is run_id:step:tool:args_hash; once recorded it is never computed again."""

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
    """A checkpoint of a thread, in LangGraph's shape; `ns` is the checkpoint namespace, ids sort by time.

    Those in the namespace `:run-state` are documents of `runs.external.documents`.
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
        help_text="The version of each channel, as text; its values are blobs.",
    )
    pending = models.CharField(
        max_length=500,
        blank=True,
        default="",
        help_text="The nodes that run next, with commas between them.",
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
    """The value of one channel at one version."""

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
    """A write of one task that belongs to a checkpoint, in LangGraph's order (task_path, task_id, idx)."""

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
