"""The inputs by whose values the runs of a graph can be searched."""

from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.db import models
from django.db.models import Q

from graphs.models.graph import Graph

if TYPE_CHECKING:
    from graphs.auth.callers import Caller


class IndexedInputQuerySet(models.QuerySet[Any]):
    def declared(self) -> Self:
        """Those that the current versions of their graphs declare."""
        return self.filter(dropped=False)

    def searchable_by(self, caller: "Caller") -> Self:
        """Those of the namespaces in which the caller may see what runs work on."""
        namespaces = caller.namespaces_with("payloads")
        return self if namespaces is None else self.filter(graph__namespace__in=namespaces)


class IndexedInput(models.Model):
    """A path into the inputs of a graph's runs that the graph's current version declares.

    `runs.models.RunInput` has the values. Runs that start are indexed at once, and those from
    before the declaration in batches, the newest first (`runs.actions.index_inputs`).
    """

    graph = models.ForeignKey(
        Graph,
        on_delete=models.CASCADE,
        related_name="indexed_inputs",
        db_index=False,
        db_constraint=False,  # the release before this one can delete the graph
    )
    path = models.CharField(max_length=200)
    indexed_from = models.BigIntegerField(
        null=True,
        editable=False,
        help_text=("Runs from this primary key on are indexed: 0 for all. Empty before the first."),
    )
    dropped = models.BooleanField(
        default=False, editable=False, help_text="No longer declared; its values are deleted."
    )

    objects = IndexedInputQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["graph", "path"], condition=Q(dropped=False), name="sm_input_once_per_graph"
            )
        ]
        indexes: ClassVar = [models.Index(fields=["path", "graph"], name="sm_input_by_path")]

    def __str__(self) -> str:
        return f"{self.path} of {self.graph}"
