"""States: executions of nodes."""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from graphs.models import Namespace
from runs.core import statuses
from runs.models.fields import json_field
from runs.models.querysets import StateQuerySet
from runs.models.run import Run

# The node of the states that an outside program reports. No node is registered under this name.
OUTSIDE = "outside program"


class State(models.Model):
    """One execution of one node in a run.

    `path` is its place below fan-outs (`runs.core.paths`). `identifier` and the path at which the
    node ran name the step, which all attempts and retries share.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="states", db_index=False)
    parent = models.UUIDField(
        null=True, help_text="The state whose outputs led to this one; empty for roots."
    )
    worker_namespace = models.ForeignKey(
        Namespace, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    created_at = models.DateTimeField(default=timezone.now)
    retry_count = models.PositiveIntegerField(default=0)
    joined = models.BooleanField(default=False)
    reused = models.UUIDField(
        null=True, help_text="The state of another run that this one was copied from."
    )
    fanout_id = models.CharField(
        max_length=200,
        blank=True,
        default="",
        db_default="",
        help_text="The name that the caller gave to a manual retry.",
    )
    watched = models.BooleanField(default=False, help_text="Joins wait for states of this node.")
    identifier = models.CharField(max_length=200, db_collation=None)
    node = models.CharField(max_length=200)
    path = models.CharField(max_length=1000, blank=True)
    inputs = json_field(
        null=True, help_text="If null, the inputs of the first sibling of the fan-out."
    )

    status = models.CharField(
        max_length=18,
        default=statuses.CREATED,
        choices=[(status, status) for status in statuses.STATE_STATUSES],
    )
    attempt = models.PositiveIntegerField(
        default=0, help_text="The fence, which rises with each claim."
    )
    lost_leases = models.PositiveSmallIntegerField(
        default=0, help_text="The number of leases that the state lost."
    )
    paused = models.BooleanField(default=False)
    due_at = models.DateTimeField(null=True, default=timezone.now)
    namespace_key = models.BigIntegerField(
        default=0,
        db_default=0,
        help_text="The id of its run's namespace, for claims; 0 if an old version stored it.",
    )
    claim_at = models.DateTimeField(
        default=timezone.now,
        db_default=Now(),
        help_text="Its place among the ready states of its namespace: runs.engine.priority.",
    )
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=100, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    progress = models.FloatField(default=0)
    emitted = models.PositiveBigIntegerField(default=0)
    outputs = json_field(None, null=True)
    chosen = json_field(None, null=True)
    error = models.TextField(blank=True)
    waiting_for = json_field(None, null=True)
    answer = json_field(None, null=True)

    objects = StateQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=statuses.STATE_STATUSES), name="sm_state_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status__in=statuses.FINAL_STATES, finished_at__isnull=False)
                | Q(status__in=statuses.UNFINISHED, finished_at=None),
                name="sm_state_finished_when_final",
            ),
            models.CheckConstraint(
                condition=Q(progress__gte=0, progress__lte=1), name="sm_state_progress_share"
            ),
            models.UniqueConstraint(
                fields=["run", "identifier", "path"], condition=Q(joined=True), name="sm_join_once"
            ),
            models.UniqueConstraint(
                fields=["run", "identifier", "fanout_id"],
                condition=~Q(fanout_id=""),
                name="sm_manual_retry_once",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["run", "identifier", "path"], name="sm_state_of_run"),
            models.Index(
                fields=["run", "identifier", "path"],
                condition=Q(status__in=statuses.UNFINISHED, watched=True),
                name="sm_state_unfinished",
            ),
            models.Index(
                fields=["namespace_key", "node", "claim_at", "id"],
                condition=Q(
                    status=statuses.CREATED,
                    worker_namespace=None,
                    paused=False,
                    due_at__isnull=False,
                ),
                name="sm_state_claimable",
            ),
            models.Index(
                fields=["node", "due_at", "id"],
                condition=Q(
                    status=statuses.CREATED,
                    worker_namespace=None,
                    paused=False,
                    due_at__isnull=False,
                    lost_leases__gt=0,
                ),
                name="sm_state_quarantined",
            ),
            models.Index(
                fields=["worker_namespace", "namespace_key", "node", "claim_at", "id"],
                condition=Q(
                    status=statuses.CREATED,
                    worker_namespace__isnull=False,
                    paused=False,
                    due_at__isnull=False,
                ),
                name="sm_state_claimable_by_worker",
            ),
            models.Index(
                fields=["claim_at"],
                condition=Q(status=statuses.CREATED, paused=False, claim_at=F("due_at")),
                name="sm_state_delayed",
            ),
            models.Index(
                fields=["id", "namespace_key"],
                condition=Q(waiting_for__isnull=False),
                name="sm_state_asking",
            ),
            models.Index(
                fields=["lease_expires_at"],
                condition=Q(status=statuses.QUEUED),
                name="sm_state_leased",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.identifier} {self.status}"
