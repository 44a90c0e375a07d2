"""Secrets of graphs."""

from typing import ClassVar

from django.db import models
from django.utils import timezone

from graphs.models.constraints import not_empty
from graphs.models.graph import Graph


class Secret(models.Model):
    """A value that nodes of one graph may ask for, encrypted (`graphs.services.secrets`). It is shown nowhere."""

    graph = models.ForeignKey(Graph, on_delete=models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=200)
    token = models.TextField(editable=False)
    former = models.TextField(
        editable=False,
        blank=True,
        help_text="The token before: who still holds it may leave it in what it reports.",
    )
    by_template = models.BooleanField(
        default=False,
        editable=False,
        help_text="A program put it with its graph template; its next one may leave it out.",
    )
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["graph_id", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["graph", "name"], name="sm_secret_once_per_graph"),
            not_empty("name", "sm_secret_named"),
        ]

    def __str__(self) -> str:
        return self.name
