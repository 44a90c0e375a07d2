"""Bulk operations and their results."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from graphs.models import ApiKey
from runs.models.fields import json_field


class BulkOperation(models.Model):
    """One action on the runs that matched a query when the operation was created.

    `runs.actions.bulk_runner` runs it. `query` has the list's filters, or {"pk": [...]} for runs
    that were ticked, or {"failed_of": id} for the runs for which another operation failed. Runs are
    processed from `bound` downwards; those from `cursor` upwards are done. The runner of the
    operation has it under `token` until the lease ends.
    """

    class Action(models.TextChoices):
        DELETE = "delete"
        ARCHIVE = "archive"
        UNARCHIVE = "unarchive"
        RERUN = "rerun"
        RETRY = "retry"
        CANCEL = "cancel"
        PAUSE = "pause"
        RESUME = "resume"
        LABEL = "label"
        SET_STATUS = "set_status"
        EXPORT = "export"

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        STOPPED = "stopped"

    action = models.CharField(max_length=10, choices=Action.choices)
    params = json_field()
    query = json_field()
    reason = models.CharField(max_length=500, blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    key = models.ForeignKey(
        ApiKey, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    actor = models.CharField(max_length=150)
    via = models.CharField(max_length=10)
    idempotency_key = models.UUIDField(
        default=uuid.uuid4,
        unique=True,
        help_text="Created with the form, so that a double click makes one operation.",
    )
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    stop_asked = models.BooleanField(default=False)
    total = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    bound = models.BigIntegerField(default=0)
    cursor = models.BigIntegerField(null=True)
    file = models.CharField(max_length=500, blank=True, help_text="The file that an export wrote.")
    error = models.TextField(blank=True, help_text="Why the operation could not continue.")
    token = models.CharField(max_length=32, blank=True)
    lease_expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["id"],
                condition=Q(status__in=["queued", "running"]),
                name="sm_operation_to_do",
            )
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["queued", "running", "done", "stopped"]),
                name="sm_operation_status_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_action_display()} of {self.total:,} runs"

    @property
    def over(self) -> bool:
        """Whether the operation is done or was stopped."""
        return self.status in (self.Status.DONE, self.Status.STOPPED)


class BulkResult(models.Model):
    """The result of an operation for one run.

    The run is named by its values and not by a foreign key, because it may be deleted.
    """

    operation = models.ForeignKey(
        BulkOperation, on_delete=models.CASCADE, related_name="results", db_index=False
    )
    run = models.BigIntegerField()
    run_id = models.CharField(max_length=200)
    name = models.CharField(max_length=500, blank=True)
    done = models.BooleanField()
    code = models.CharField(max_length=20, blank=True)
    reason = models.TextField(blank=True)
    created_run_id = models.CharField(
        max_length=200, blank=True, help_text="The id of the run that the action created."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["operation", "run"], name="sm_result_once")
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["operation", "id"], condition=Q(done=False), name="sm_result_failed"
            ),
            models.Index(fields=["run"], name="sm_result_of_run"),
        ]

    def __str__(self) -> str:
        return self.run_id
