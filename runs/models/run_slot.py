"""The slots of concurrency limits."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from graphs.models import Graph
from runs.models.run import Run


class RunSlot(models.Model):
    """The slot of an active run of a graph with a concurrency limit, or that it waits for one.

    A run without such a limit has no row, nor has one that has ended. Old code that deletes runs
    doesn't know this table: hence no constraint.
    """

    run = models.OneToOneField(
        Run, on_delete=models.CASCADE, related_name="slot", db_constraint=False
    )
    graph = models.ForeignKey(
        Graph, on_delete=models.CASCADE, related_name="+", db_constraint=False
    )
    queue = models.CharField(
        max_length=250, help_text="The graph, and the key of the runs that share the slots."
    )
    capacity = models.PositiveIntegerField(
        help_text="How many runs of the queue may be active at once."
    )
    available_at = models.DateTimeField(help_text="When the run asks for a slot.")
    taken_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["queue", "available_at", "id"],
                condition=Q(taken_at=None),
                name="sm_run_slot_waiting",
            ),
            models.Index(
                fields=["queue", "taken_at"],
                condition=Q(taken_at__isnull=False),
                name="sm_run_slot_taken",
            ),
        ]

    def __str__(self) -> str:
        if self.taken_at:
            return f"slot since {self.taken_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"waits for a slot since {self.available_at:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def key(self) -> str:
        """The value of the limit's key, which comes from the inputs or labels of the run."""
        return key_of(self.queue)


def key_of(queue: str) -> str:
    """The value of the key in the name of a queue, such as "12:text:acme"; "" without one."""
    return "".join(queue.split(":", 2)[2:])
