"""Runs."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from graphs.models import Dataset, Graph, GraphVersion, Namespace
from runs.core import statuses
from runs.core.node_counts import NodeCountsField
from runs.models.fields import json_field
from runs.models.querysets import RunQuerySet
from runs.models.run_template import RunTemplate

# The counters that add up to the number of a run's states: each state is in one of them.
STATE_COUNTS = (
    "pending_count",
    "success_count",
    "errored_count",
    "retried_count",
    "cancelled_count",
)


class Run(models.Model):
    """One execution of a graph; or, without a graph, of an outside program that reports it.

    The columns from `updated_at` on change with every batch. They are the last columns of the row
    and none of them is indexed. So PostgreSQL updates the row without touching an index, and logs
    only the bytes that changed. Every index slows down each batch, so there is one for each query
    that needs it and no more.
    """

    class Trigger(models.TextChoices):
        API = "api"
        ADMIN = "admin"
        COMMAND = "command"
        SCHEDULE = "schedule"
        RERUN = "rerun"
        IMPORT = "import"
        TEMPLATE = "template"

    namespace = models.ForeignKey(
        Namespace, on_delete=models.PROTECT, related_name="runs", db_index=False
    )
    run_id = models.CharField(max_length=200)
    name = models.CharField(max_length=500, blank=True)
    graph = models.ForeignKey(
        Graph, null=True, blank=True, on_delete=models.PROTECT, related_name="runs", db_index=False
    )
    version = models.ForeignKey(
        GraphVersion,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="runs",
        db_index=False,
    )
    dataset = models.ForeignKey(
        Dataset,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="runs",
        db_index=False,
    )
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="reruns"
    )
    template = models.ForeignKey(
        RunTemplate,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="runs",
        db_index=False,
    )
    root = models.BigIntegerField(
        null=True, help_text="For a rerun, the first run of its tree, which may have been deleted."
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    username = models.CharField(max_length=150, blank=True)
    workspace = models.CharField(max_length=200, blank=True)
    session_id = models.CharField(max_length=200, blank=True)
    purpose = models.TextField(blank=True)
    sop = models.TextField(blank=True)
    trigger = models.CharField(max_length=10, choices=Trigger.choices, default=Trigger.API)
    labels = json_field()
    initial_data = json_field()
    store = json_field()
    metadata = json_field()
    data = json_field()
    action_history = json_field(list)
    fingerprint = models.CharField(max_length=64, blank=True)
    document_version = models.PositiveIntegerField(
        default=1, help_text="The `version` of the run document."
    )
    heuristic_count_at_checkpoint = models.PositiveIntegerField(default=0)
    experience_count_at_checkpoint = models.PositiveIntegerField(default=0)
    rerun_count = models.PositiveIntegerField(default=0)
    max_steps = models.PositiveIntegerField(null=True, blank=True)
    priority = models.SmallIntegerField(
        default=0,
        db_default=0,
        help_text="From -100 to 100: which of the namespace's ready states are executed first.",
    )
    origin = json_field(None, null=True)
    reruns_left = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="How often the run is rerun automatically if it fails."
    )
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    status = models.CharField(
        max_length=10,
        default=statuses.RUN_QUEUED,
        choices=[(status, status) for status in statuses.RUN_STATUSES],
    )
    paused = models.BooleanField(
        default=False, help_text="A person paused the run, so none of its states is claimed."
    )
    stopping = models.BooleanField(
        default=False, help_text="The run is stopping, because of failures or its step limit."
    )
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    waiting_count = models.PositiveIntegerField(default=0)
    errored_count = models.PositiveIntegerField(default=0)
    retried_count = models.PositiveIntegerField(default=0)
    cancelled_count = models.PositiveIntegerField(default=0)
    emitted = models.PositiveBigIntegerField(default=0)
    error_message = models.TextField(blank=True)

    updated_at = models.DateTimeField(default=timezone.now)
    revision = models.PositiveBigIntegerField(default=0)
    pending_count = models.PositiveIntegerField(default=0)
    started_count = models.PositiveIntegerField(
        default=0,
        help_text="States created to be started, including retries; limited by max_steps.",
    )
    success_count = models.PositiveIntegerField(
        default=0, help_text="States that are SUCCESS or PRUNED."
    )
    current_step = models.PositiveIntegerField(
        default=0, help_text="The number of states that succeeded."
    )
    stored_bytes = models.PositiveBigIntegerField(
        default=0,
        db_default=0,
        help_text="Bytes of the inputs, outputs and files that its states stored.",
    )
    log_count = models.PositiveIntegerField(default=0)
    progress = models.PositiveSmallIntegerField(default=0)
    current_node = models.CharField(max_length=200, blank=True)
    node_counts: Any = NodeCountsField(default=dict, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["namespace", "run_id"], name="sm_run_id_once_per_namespace"
            ),
            models.CheckConstraint(condition=~Q(run_id=""), name="sm_run_named"),
            models.CheckConstraint(
                condition=Q(status__in=statuses.RUN_STATUSES), name="sm_run_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status__in=statuses.ENDED_RUNS, finished_at__isnull=False)
                | Q(status__in=statuses.ACTIVE_RUNS, finished_at=None),
                name="sm_run_finished_when_ended",
            ),
            models.CheckConstraint(condition=Q(progress__lte=100), name="sm_run_progress_percent"),
            models.CheckConstraint(
                condition=Q(archived_at=None) | Q(status__in=statuses.ENDED_RUNS),
                name="sm_run_archived_when_ended",
            ),
            models.CheckConstraint(
                condition=Q(waiting_count__lte=F("pending_count")),
                name="sm_run_waiting_are_pending",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["run_id"], name="sm_run_by_thread"),
            models.Index(
                fields=["-created_at", "-id"], condition=Q(archived_at=None), name="sm_run_newest"
            ),
            models.Index(
                fields=["-created_at", "-id"],
                condition=Q(archived_at__isnull=False),
                name="sm_run_archived",
            ),
            models.Index(
                fields=["namespace", "-created_at", "-id"], name="sm_run_newest_of_namespace"
            ),
            models.Index(
                fields=["status", "-created_at", "-id"],
                condition=Q(archived_at=None),
                name="sm_run_by_status",
            ),
            models.Index(fields=["graph", "-id"], name="sm_run_of_graph"),
            models.Index(fields=["name", "-created_at", "-id"], name="sm_run_by_name"),
            models.Index(fields=["finished_at", "id"], name="sm_run_by_finish"),
            models.Index(fields=["username", "-created_at", "-id"], name="sm_run_of_user"),
            models.Index(fields=["workspace", "-created_at", "-id"], name="sm_run_of_workspace"),
            models.Index(
                fields=["id"],
                condition=Q(reruns_left__gt=0, status__in=statuses.UNSUCCESSFUL),
                name="sm_run_to_rerun",
            ),
            models.Index(
                fields=["template", "-id"],
                condition=Q(template__isnull=False),
                name="sm_run_of_template",
            ),
            models.Index(
                fields=["session_id", "created_at", "id"],
                condition=~Q(session_id=""),
                name="sm_run_of_session",
            ),
            models.Index(fields=["root"], condition=Q(root__isnull=False), name="sm_run_of_tree"),
        ]
        permissions: ClassVar = [
            ("view_payload", "Can see inputs, outputs and logs of runs"),
            ("rerun_run", "Can rerun runs"),
            ("cancel_run", "Can cancel, pause, resume, retry and answer runs"),
            ("set_status_run", "Can set the status of runs by hand"),
            ("export_run", "Can export runs"),
        ]

    def __str__(self) -> str:
        return self.name or self.run_id

    @property
    def ended(self) -> bool:
        """Whether the run has a final status."""
        return self.status in statuses.ENDED_RUNS

    @property
    def state_count(self) -> int:
        """The number of states that the run has, whatever their status."""
        return sum(getattr(self, name) for name in STATE_COUNTS)
