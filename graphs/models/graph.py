"""Graphs and their immutable versions."""

from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from graphs.definition import plan
from graphs.definition.errors import NotFound
from graphs.models.constraints import not_empty
from graphs.models.namespace import Namespace
from graphs.models.querysets import GraphQuerySet
from graphs.models.sized_cache import SizedCache

MAX_CACHED_NODES = 100_000  # of the plans that a process keeps


class Graph(models.Model):
    """A named graph. Its versions hold its definitions; new runs start with the `current` one."""

    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="graphs")
    name = models.CharField(max_length=200)
    current = models.ForeignKey(
        "GraphVersion", null=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = GraphQuerySet.as_manager()

    class Meta:
        ordering = ["namespace__name", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["namespace", "name"], name="sm_graph_once_per_namespace"
            ),
            not_empty("name", "sm_graph_named"),
        ]

    def __str__(self) -> str:
        return f"{self.namespace.name}/{self.name}"


class GraphVersion(models.Model):
    """One immutable definition of a graph. A run keeps the version that it started with."""

    graph = models.ForeignKey(Graph, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    definition = models.JSONField()
    checksum = models.CharField(max_length=64)
    note = models.CharField(max_length=500, blank=True)
    problems = models.JSONField(
        default=list,
        blank=True,
        help_text="Why the version can't run, such as nodes that are not registered.",
    )
    by_template = models.BooleanField(
        default=False,
        help_text="Stored as a graph template: external nodes need all inputs of their schemas.",
    )
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)

    class Meta:
        ordering = ["graph_id", "-number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["graph", "number"], name="sm_version_number_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="sm_version_number_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.graph} version {self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise ValidationError("A graph version can't be changed. Publish a new one.")
        super().save(*args, **kwargs)

    @property
    def plan(self) -> "plan.Plan":
        """The definition, compiled for the engine."""
        return plan_of(self.pk, self.checksum)


_plans = SizedCache[tuple[int, str], plan.Plan](MAX_CACHED_NODES, lambda made: len(made.order))


def plan_of(version_id: int, checksum: str) -> plan.Plan:
    """The compiled plan of a version.

    A version never changes, so each process compiles it once. The checksum guards against a key
    that a failover gave to another version. Raises NotFound if the graph was deleted.
    """
    return _plans.get((version_id, checksum), lambda: _compiled(version_id, checksum))


def forget_plans() -> None:
    """Empty the cache of plans (for tests)."""
    _plans.clear()


def _compiled(version_id: int, checksum: str) -> "plan.Plan":
    version = GraphVersion.objects.filter(pk=version_id, checksum=checksum)
    definition = version.values_list("definition", flat=True).first()
    if definition is None:
        raise NotFound("The graph was deleted.")
    return plan.compile_plan(definition)
