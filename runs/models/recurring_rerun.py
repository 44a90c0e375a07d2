"""Schedules on which runs are rerun."""

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from graphs.models import Namespace, Schedule
from graphs.models.querysets import InNamespaces
from runs.models.run import Run


class RecurringRerun(Schedule):
    """A run that is rerun again and again, at each due time, until somebody stops it.

    Without `inputs` the reruns have those of the run. With `newest` they use the newest version of
    its graph.
    """

    run = models.ForeignKey(
        Run,
        on_delete=models.CASCADE,
        related_name="recurring_reruns",
        db_index=False,
        db_constraint=False,  # the release before this one can delete the run
    )
    namespace = models.ForeignKey(
        Namespace, on_delete=models.CASCADE, related_name="+", db_constraint=False
    )
    inputs = models.JSONField(null=True, blank=True)
    newest = models.BooleanField(default=False)
    author = models.CharField(max_length=150, help_text="Who asked for it.")

    objects: Any = InNamespaces.as_manager()

    class Meta:
        verbose_name = "recurring rerun"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["run", "expression", "time_zone"], name="sm_recurring_once_per_run"
            )
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["next_at"],
                condition=Q(enabled=True, next_at__isnull=False),
                name="sm_recurring_due",
            )
        ]
