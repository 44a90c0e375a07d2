"""The secrets of graphs."""

from typing import ClassVar

from django.db import models
from django.utils import timezone

from graphs.models.constraints import not_empty
from graphs.models.graph import Graph


class Secret(models.Model):
    """An encrypted value that the nodes of one graph may ask for. It is never shown.

    `graphs.services.secrets` encrypts and decrypts it.
    """

    graph = models.ForeignKey(Graph, on_delete=models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=200)
    token = models.TextField(editable=False)
    former = models.TextField(
        editable=False,
        blank=True,
        help_text="The previous token. It is redacted, too, because a worker may still report it.",
    )
    by_template = models.BooleanField(
        default=False,
        editable=False,
        help_text="Part of a graph template, so that the next template may remove it.",
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
