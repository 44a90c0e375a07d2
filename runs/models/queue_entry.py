"""The places of external runs in the queue from which programs take them."""

from datetime import datetime
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from graphs.models import Namespace
from graphs.models.querysets import InNamespaces
from runs.models.run import Run


class QueueEntry(models.Model):
    """An external run that waits for its program, or is held by one.

    A run is taken by the first program that claims it after `available_at`. Claiming it moves that
    time to the end of the lease, so a run whose lease is over is available again without anybody's
    help. `claim` is the fence: it is raised whenever the run is taken or given back, and a report
    with another number is refused. The namespace is the run's, so that the entries of others can
    be passed over without a look at their runs. The database checks no keys, so that the release
    before this one can delete runs that have an entry.
    """

    run = models.OneToOneField(
        Run,
        on_delete=models.CASCADE,
        related_name="queue_entry",
        primary_key=True,
        db_constraint=False,
    )
    namespace = models.ForeignKey(
        Namespace, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    available_at = models.DateTimeField(
        null=True, help_text="When a program may take the run. Empty if none may any more."
    )
    claim = models.PositiveIntegerField(default=0)
    holder = models.CharField(
        max_length=200, blank=True, help_text="The program that took the run last."
    )
    claimed_at = models.DateTimeField(null=True)
    lease_seconds = models.FloatField(default=0)

    objects: Any = InNamespaces.as_manager()

    class Meta:
        verbose_name = "queue entry"
        verbose_name_plural = "queue entries"
        indexes: ClassVar = [
            models.Index(
                fields=["available_at", "run"],
                condition=Q(available_at__isnull=False),
                name="sm_queue_to_claim",
            )
        ]

    def __str__(self) -> str:
        return f"claim {self.claim} of run {self.run_id}"

    def is_held(self, now: datetime) -> bool:
        """Whether a program holds the run and its lease is not over."""
        return bool(self.holder and self.available_at and self.available_at > now)

    def is_of(self, name: str) -> bool:
        """Whether the caller of this name holds the run, perhaps with the name of a process."""
        return f"{self.holder} ".startswith(f"{name} ")
