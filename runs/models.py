"""What is running and what ran: runs, states, logs, artifacts, clusters; what outside programs leave is in `checkpoint_models`."""

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from graphs.models import Dataset, Graph, GraphVersion, Namespace
from runs.checkpoint_models import Checkpoint as Checkpoint
from runs.checkpoint_models import CheckpointBlob as CheckpointBlob
from runs.checkpoint_models import CheckpointWrite as CheckpointWrite
from runs.checkpoint_models import ToolResult as ToolResult
from runs.core import statuses
from runs.core.node_counts import TallyField
from runs.operation_models import BulkOperation as BulkOperation
from runs.operation_models import BulkResult as BulkResult
from runs.operation_models import ColumnChoice as ColumnChoice
from runs.operation_models import SavedView as SavedView
from runs.querysets import LogQuerySet, RunQuerySet, StateQuerySet
from runs.template_models import RunTemplate as RunTemplate
from runs.trace_models import AuditEntry as AuditEntry
from runs.trace_models import Tombstone as Tombstone


def _json(default: Any = dict, **options: Any) -> models.JSONField:
    return models.JSONField(default=default, blank=True, encoder=DjangoJSONEncoder, **options)


class Run(models.Model):
    """One execution of a graph; without a graph, one that an outside program drives and reports.

    The columns from `updated_at` on change with every slice. They stand together at the end and none is indexed, so that a slice
    rewrites some tens of bytes of the row; and there are no more indexes than readers.
    """

    class Trigger(models.TextChoices):
        API = "api"
        ADMIN = "admin"
        COMMAND = "command"
        SCHEDULE = "schedule"
        RERUN = "rerun"
        IMPORT = "import"
        TEMPLATE = "template"

    namespace = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="runs", db_index=False)
    run_id = models.CharField(max_length=200)
    name = models.CharField(max_length=500, blank=True)
    graph = models.ForeignKey(Graph, null=True, blank=True, on_delete=models.PROTECT, related_name="runs", db_index=False)
    version = models.ForeignKey(GraphVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="runs", db_index=False)
    dataset = models.ForeignKey(Dataset, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs", db_index=False)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="reruns")
    template = models.ForeignKey(RunTemplate, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs", db_index=False)
    root = models.BigIntegerField(null=True, help_text="Of a rerun: the first run of its tree, which may be gone.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    username = models.CharField(max_length=150, blank=True)
    workspace = models.CharField(max_length=200, blank=True)
    session_id = models.CharField(max_length=200, blank=True)
    purpose = models.TextField(blank=True)
    sop = models.TextField(blank=True)
    trigger = models.CharField(max_length=10, choices=Trigger.choices, default=Trigger.API)
    labels = _json()
    initial_data = _json()
    store = _json()
    metadata = _json()
    data = _json()
    action_history = _json(list)
    fingerprint = models.CharField(max_length=64, blank=True)
    seed_version = models.PositiveIntegerField(default=1, help_text="`version` of seed 003's RunState.")
    heuristic_count_at_checkpoint = models.PositiveIntegerField(default=0)
    experience_count_at_checkpoint = models.PositiveIntegerField(default=0)
    rerun_count = models.PositiveIntegerField(default=0)
    max_steps = models.PositiveIntegerField(null=True, blank=True)
    origin = _json(None, null=True)
    reruns_left = models.PositiveSmallIntegerField(default=0, db_default=0, help_text="How often it is rerun by itself if it fails.")
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    status = models.CharField(max_length=10, default=statuses.RUN_QUEUED, choices=[(word, word) for word in statuses.RUN_STATUSES])
    held = models.BooleanField(default=False, help_text="A person paused it: nothing of it is claimed.")
    stopping = models.BooleanField(default=False, help_text="Too many failures or steps: what isn't started yet is cancelled.")
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
    started_count = models.PositiveIntegerField(default=0, help_text="States made to be started, retries included; bounded by max_steps.")
    success_count = models.PositiveIntegerField(default=0, help_text="SUCCESS and PRUNED.")
    current_step = models.PositiveIntegerField(default=0, help_text="States that succeeded.")
    log_count = models.PositiveIntegerField(default=0)
    progress = models.PositiveSmallIntegerField(default=0)
    current_node = models.CharField(max_length=200, blank=True)
    tally: Any = TallyField(default=dict, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["namespace", "run_id"], name="run_id_once_per_namespace"),
            models.CheckConstraint(condition=~Q(run_id=""), name="run_named"),
            models.CheckConstraint(condition=Q(status__in=statuses.RUN_STATUSES), name="run_status_known"),
            models.CheckConstraint(
                condition=Q(status__in=statuses.ENDED_RUNS, finished_at__isnull=False) | Q(status__in=statuses.ACTIVE_RUNS, finished_at=None),
                name="run_finished_when_ended",
            ),
            models.CheckConstraint(condition=Q(progress__lte=100), name="run_progress_percent"),
            models.CheckConstraint(condition=Q(archived_at=None) | Q(status__in=statuses.ENDED_RUNS), name="run_archived_when_ended"),
            models.CheckConstraint(condition=Q(waiting_count__lte=F("pending_count")), name="run_waiting_are_pending"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["run_id"], name="run_by_thread"),
            models.Index(fields=["-created_at", "-id"], condition=Q(archived_at=None), name="run_newest"),
            models.Index(fields=["-created_at", "-id"], condition=Q(archived_at__isnull=False), name="run_archived"),
            models.Index(fields=["namespace", "-created_at", "-id"], name="run_newest_of_namespace"),
            models.Index(fields=["status", "-created_at", "-id"], condition=Q(archived_at=None), name="run_by_status"),
            models.Index(fields=["graph", "-id"], name="run_of_graph"),
            models.Index(fields=["username", "-created_at", "-id"], name="run_of_user"),
            models.Index(fields=["workspace", "-created_at", "-id"], name="run_of_workspace"),
            models.Index(fields=["id"], condition=Q(reruns_left__gt=0, status__in=(statuses.FAILED, statuses.PARTIAL)), name="run_to_rerun"),
            models.Index(fields=["template", "-id"], condition=Q(template__isnull=False), name="run_of_template"),
            models.Index(fields=["root"], condition=Q(root__isnull=False), name="run_of_tree"),
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
        return self.status in statuses.ENDED_RUNS


OUTSIDE = "outside program"  # the node of states that such a program reports; no registered node is called so


class State(models.Model):
    """One execution of one node template in a run.

    `path` says where below fan-outs it stands (`runs.core.paths`); `identifier` and the path without its own last part name the
    step that all attempts and retries share.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="states", db_index=False)
    parent = models.UUIDField(null=True, help_text="The state whose outputs made this one; none for roots.")
    worker_namespace = models.ForeignKey(Namespace, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    created_at = models.DateTimeField(default=timezone.now)
    retry_count = models.PositiveIntegerField(default=0)
    joined = models.BooleanField(default=False)
    reused = models.UUIDField(null=True, help_text="The state of another run whose outcome it took over.")
    fanout_id = models.CharField(max_length=200, blank=True, default="", db_default="", help_text="Of a manual retry: what its caller named it.")
    watched = models.BooleanField(default=False, help_text="A join waits for states of this node.")
    identifier = models.CharField(max_length=200, db_collation=None)
    node = models.CharField(max_length=200)
    path = models.CharField(max_length=1000, blank=True)
    inputs = _json(null=True, help_text="None: those of the first sibling of its fan-out.")

    status = models.CharField(max_length=18, default=statuses.CREATED, choices=[(word, word) for word in statuses.STATE_STATUSES])
    attempt = models.PositiveIntegerField(default=0, help_text="The fence: raised by each claim.")
    lost = models.PositiveSmallIntegerField(default=0, help_text="Leases lost so far.")
    held = models.BooleanField(default=False)
    due_at = models.DateTimeField(null=True, default=timezone.now)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=100, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    progress = models.FloatField(default=0)
    emitted = models.PositiveBigIntegerField(default=0)
    outputs = _json(None, null=True)
    chosen = _json(None, null=True)
    error = models.TextField(blank=True)
    waiting_for = _json(None, null=True)
    answer = _json(None, null=True)

    objects = StateQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=statuses.STATE_STATUSES), name="state_status_known"),
            models.CheckConstraint(
                condition=Q(status__in=statuses.FINAL_STATES, finished_at__isnull=False) | Q(status__in=statuses.UNFINISHED, finished_at=None),
                name="state_finished_when_final",
            ),
            models.CheckConstraint(condition=Q(progress__gte=0, progress__lte=1), name="state_progress_share"),
            models.UniqueConstraint(fields=["run", "identifier", "path"], condition=Q(joined=True), name="join_once"),
            models.UniqueConstraint(fields=["run", "identifier", "fanout_id"], condition=~Q(fanout_id=""), name="manual_retry_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["run", "identifier", "path"], name="state_of_run"),
            models.Index(fields=["run", "identifier", "path"], condition=Q(status__in=statuses.UNFINISHED, watched=True), name="state_unfinished"),
            models.Index(
                fields=["node", "due_at", "id"],
                condition=Q(status=statuses.CREATED, worker_namespace=None, held=False, due_at__isnull=False),
                name="state_ready",
            ),
            models.Index(
                fields=["node", "due_at", "id"],
                condition=Q(status=statuses.CREATED, worker_namespace=None, held=False, due_at__isnull=False, lost__gt=0),
                name="state_suspect",
            ),
            models.Index(
                fields=["worker_namespace", "node", "due_at", "id"],
                condition=Q(status=statuses.CREATED, worker_namespace__isnull=False, held=False, due_at__isnull=False),
                name="state_ready_for_worker",
            ),
            models.Index(fields=["lease_expires_at"], condition=Q(status=statuses.QUEUED), name="state_leased"),
        ]

    def __str__(self) -> str:
        return f"{self.identifier} {self.status}"


class LogLine(models.Model):
    """One line that a run or one of its nodes said. Lines of a run are numbered in the order in which they were stored."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="logs", db_index=False)
    state = models.UUIDField(null=True)
    attempt = models.PositiveIntegerField(default=0)
    identifier = models.CharField(max_length=200, blank=True)
    level = models.CharField(max_length=10, default="info")
    message = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)

    objects = LogQuerySet.as_manager()

    class Meta:
        verbose_name = "log line"
        constraints: ClassVar = [models.CheckConstraint(condition=Q(level__in=["debug", "info", "warning", "error"]), name="log_level_known")]
        indexes: ClassVar = [models.Index(fields=["run", "id"], name="log_of_run")]

    def __str__(self) -> str:
        return self.message


class Artifact(models.Model):
    """A file that a run made. `table` files pass rows between nodes; `file` ones are for people."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="artifacts")
    state = models.UUIDField()
    identifier = models.CharField(max_length=200)
    kind = models.CharField(max_length=5, choices=[("file", "file"), ("table", "table")], default="file")
    name = models.CharField(max_length=255)
    file = models.CharField(max_length=500, unique=True)
    size = models.BigIntegerField()
    checksum = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(size__gte=0), name="artifact_size_positive"),
            models.CheckConstraint(condition=~Q(name=""), name="artifact_named"),
        ]

    def __str__(self) -> str:
        return self.name


class Cluster(models.Model):
    """A supervised django-q2 cluster; any sign of life of one of its workers sets `seen_at`."""

    name = models.CharField(max_length=100, primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    workers = models.PositiveIntegerField()
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    restarts = models.PositiveIntegerField(default=0)
    stopping = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.name
