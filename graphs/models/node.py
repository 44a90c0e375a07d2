"""The nodes that graphs may use."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from graphs.models.constraints import not_empty
from graphs.models.namespace import Namespace


class RegisteredNode(models.Model):
    """Something that can be executed, registered under a name.

    `builtin` nodes are Python functions that run in our worker processes. `worker` nodes run in
    external workers, which claim their states over REST.
    """

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
            models.UniqueConstraint(
                fields=["namespace", "name"], name="sm_node_once_per_namespace"
            ),
            models.CheckConstraint(
                condition=Q(executor__in=["builtin", "worker"]), name="sm_node_executor_known"
            ),
            not_empty("name", "sm_node_named"),
        ]

    def __str__(self) -> str:
        return f"{self.namespace.name}/{self.name}"
