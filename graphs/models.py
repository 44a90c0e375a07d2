"""What could run and who may run it: namespaces, keys, nodes, graphs and their versions, datasets."""

from functools import lru_cache
from time import monotonic
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from graphs.definition import cron, plan
from graphs.definition.errors import InvalidGraph, NotFound
from graphs.draft_models import DraftChange as DraftChange
from graphs.idempotency_models import IdempotencyKey as IdempotencyKey
from graphs.querysets import ApiKeyQuerySet, DatasetQuerySet, GraphQuerySet, MembershipQuerySet


def _filled(field: str, name: str) -> models.CheckConstraint:
    return models.CheckConstraint(condition=~Q(**{field: ""}), name=name)


class Namespace(models.Model):
    """The tenant: everything else lies in one."""

    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints: ClassVar = [_filled("name", "namespace_named")]

    def __str__(self) -> str:
        return self.name


class NamespaceMembership(models.Model):
    """What a user or a group may do in one namespace, beside what their permissions allow everywhere (`graphs.auth.callers.OF_ROLE`)."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer: sees runs, not what is in them"
        READER = "reader", "Reader: sees everything and exports it"
        OPERATOR = "operator", "Operator: starts, reruns, cancels and answers, too"
        MANAGER = "manager", "Manager: deletes and sets statuses, too"

    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    group = models.ForeignKey("auth.Group", null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        verbose_name = "membership"
        ordering = ["namespace__name", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(user=None) ^ Q(group=None), name="membership_of_user_or_group"),
            models.CheckConstraint(condition=Q(role__in=["viewer", "reader", "operator", "manager"]), name="membership_role_known"),
            models.UniqueConstraint(fields=["namespace", "user"], condition=Q(group=None), name="membership_once_per_user"),
            models.UniqueConstraint(fields=["namespace", "group"], condition=Q(user=None), name="membership_once_per_group"),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.group}: {self.role} of {self.namespace}"


class ApiKey(models.Model):
    """A credential for integrations. Only a hash of its secret is stored; `graphs.auth.api_keys` makes and checks them."""

    class Scope(models.TextChoices):
        READ = "read"
        RUN = "run"
        WORKER = "worker"
        ADMIN = "admin"

    name = models.CharField(max_length=100, blank=True)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    scope = models.CharField(max_length=10, choices=Scope.choices, default=Scope.RUN)
    namespaces = models.ManyToManyField(Namespace, blank=True, help_text="What it opens, unless it opens all.")
    all_namespaces = models.BooleanField(default=False, help_text="Opens every namespace, those made later too.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    per_minute = models.PositiveIntegerField("requests a minute", null=True, blank=True, help_text="How many it may make; empty: any number.")
    minute = models.DateTimeField(null=True, editable=False)
    minute_count = models.PositiveIntegerField(default=0, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        constraints: ClassVar = [models.CheckConstraint(condition=Q(scope__in=["read", "run", "worker", "admin"]), name="apikey_scope_known")]

    def __str__(self) -> str:
        return f"{self.name or 'unnamed'} ({self.prefix}…)"


class RegisteredNode(models.Model):
    """Something that can be executed: `builtin` nodes live in our code, `worker` nodes in external processes."""

    class Executor(models.TextChoices):
        BUILTIN = "builtin"
        WORKER = "worker"

    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="nodes")
    name = models.CharField(max_length=200)
    executor = models.CharField(max_length=10, choices=Executor.choices)
    description = models.TextField(blank=True)
    inputs_schema = models.JSONField(default=dict)
    outputs_schema = models.JSONField(default=dict)
    secrets = models.JSONField(default=list)
    runtime_name = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "registered node"
        ordering = ["namespace__name", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["namespace", "name"], name="node_once_per_namespace"),
            models.CheckConstraint(condition=Q(executor__in=["builtin", "worker"]), name="node_executor_known"),
            _filled("name", "node_named"),
        ]

    def __str__(self) -> str:
        return f"{self.namespace.name}/{self.name}"


class Graph(models.Model):
    """A named graph; what it consists of is in its versions, of which `current` runs next."""

    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="graphs")
    name = models.CharField(max_length=200)
    current = models.ForeignKey("GraphVersion", null=True, editable=False, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = GraphQuerySet.as_manager()

    class Meta:
        ordering = ["namespace__name", "name"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["namespace", "name"], name="graph_once_per_namespace"), _filled("name", "graph_named")]

    def __str__(self) -> str:
        return f"{self.namespace.name}/{self.name}"


class GraphVersion(models.Model):
    """One immutable definition of a graph. A run pins the version that it started with."""

    graph = models.ForeignKey(Graph, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    definition = models.JSONField()
    checksum = models.CharField(max_length=64)
    note = models.CharField(max_length=500, blank=True)
    problems = models.JSONField(default=list, blank=True, help_text="Why it can't run: what the registered nodes and the secrets lack.")
    by_template = models.BooleanField(default=False, help_text="Put as a graph template: nodes of workers need all inputs of their schema.")
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)

    class Meta:
        ordering = ["graph_id", "-number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["graph", "number"], name="version_number_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="version_number_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.graph} version {self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise ValidationError("A graph version can't be changed; publish a new one.")
        super().save(*args, **kwargs)

    @property
    def plan(self) -> "plan.Plan":
        return plan_of(self.pk)


class Secret(models.Model):
    """A value that nodes of one graph may ask for, encrypted (`graphs.services.secrets`). It is shown nowhere."""

    graph = models.ForeignKey(Graph, on_delete=models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=200)
    token = models.TextField(editable=False)
    former = models.TextField(editable=False, blank=True, help_text="The token before: who still holds it may leave it in what it reports.")
    by_template = models.BooleanField(default=False, editable=False, help_text="A program put it with its graph template; its next one may leave it out.")
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["graph_id", "name"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["graph", "name"], name="secret_once_per_graph"), _filled("name", "secret_named")]

    def __str__(self) -> str:
        return self.name


class CronTrigger(models.Model):
    """A schedule on which a graph is started; `graphs.definition.cron` reads the expression, `runs.actions.schedules` fires it."""

    graph = models.ForeignKey(Graph, on_delete=models.CASCADE, related_name="triggers")
    expression = models.CharField(max_length=200, help_text="minute hour day-of-month month day-of-week")
    time_zone = models.CharField(max_length=60, default="UTC", help_text="An IANA name, such as Europe/Berlin.")
    enabled = models.BooleanField(default=True)
    by_template = models.BooleanField(default=False, editable=False, help_text="A program put it with its graph template; its next one may leave it out.")
    next_at = models.DateTimeField(null=True, editable=False)
    last_fired_at = models.DateTimeField(null=True, editable=False)
    missed = models.PositiveIntegerField(default=0, editable=False, help_text="Due times that passed while nothing was there to fire them.")
    error = models.TextField(blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "cron trigger"
        ordering = ["graph_id", "expression"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["graph", "expression", "time_zone"], name="trigger_once_per_graph")]
        indexes: ClassVar = [models.Index(fields=["next_at"], condition=Q(enabled=True, next_at__isnull=False), name="trigger_due")]

    def __str__(self) -> str:
        return f"{self.expression} ({self.time_zone})"

    def clean(self) -> None:
        try:
            cron.check(self.expression, self.time_zone)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Dataset(models.Model):
    """Named tables that a run works on. The id is what `?dataset_id=` takes."""

    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(max_length=200)
    source = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = DatasetQuerySet.as_manager()

    class Meta:
        ordering = ["namespace__name", "name"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["namespace", "name"], name="dataset_once_per_namespace"), _filled("name", "dataset_named")]

    def __str__(self) -> str:
        return f"{self.namespace.name}/{self.name}"


class DatasetTable(models.Model):
    """One table of a dataset: a UTF-8 CSV or JSON Lines file in the default storage."""

    class Format(models.TextChoices):
        CSV = "csv"
        JSONL = "jsonl"

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="tables")
    name = models.CharField(max_length=200)
    file = models.CharField(max_length=500)
    format = models.CharField(max_length=5, choices=Format.choices)
    columns = models.JSONField(default=list)
    rows = models.BigIntegerField(default=0)
    size = models.BigIntegerField(default=0)
    checksum = models.CharField(max_length=64)

    class Meta:
        ordering = ["dataset_id", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["dataset", "name"], name="table_once_per_dataset"),
            models.CheckConstraint(condition=Q(format__in=["csv", "jsonl"]), name="table_format_known"),
            models.CheckConstraint(condition=Q(rows__gte=0, size__gte=0), name="table_counts_positive"),
            _filled("name", "table_named"),
        ]

    def __str__(self) -> str:
        return self.name


@lru_cache(maxsize=512)
def plan_of(version_id: int) -> plan.Plan:
    """The compiled plan of a version; versions never change, so a process compiles each once. Raises NotFound once its graph is deleted."""
    definition = GraphVersion.objects.values_list("definition", flat=True).filter(pk=version_id).first()
    if definition is None:
        raise NotFound("The graph was deleted at this moment.")
    return plan.compile_plan(definition)


@lru_cache(maxsize=512)
def namespace_id(name: str) -> int:
    """The id of a namespace, which is never deleted. Raises InvalidGraph when there is none."""
    found = Namespace.objects.values_list("pk", flat=True).filter(name=name).first()
    if found is None:
        raise InvalidGraph(f"There is no namespace {name!r} whose workers could run this.")
    return int(found)


KNOWN_SECONDS = 5.0
_namespaces: dict[str, tuple[float, Namespace]] = {}


def known_namespace(name: str) -> Namespace | None:
    """The namespace of this name, read at most once in some seconds. Who is to write into it reads it again."""
    since, found = _namespaces.get(name, (0.0, None))
    if found is None or monotonic() - since > KNOWN_SECONDS:
        found = Namespace.objects.filter(name=name.replace("\x00", "")).first()
        if found is not None:
            if len(_namespaces) > 1000:
                _namespaces.clear()
            _namespaces[name] = monotonic(), found
    return found


def forget() -> None:
    """Drop what this process knows of versions and namespaces (ids begin anew in tests)."""
    plan_of.cache_clear()
    namespace_id.cache_clear()
    _namespaces.clear()
