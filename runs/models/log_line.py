"""Log lines of runs."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from runs.models.querysets import LogQuerySet
from runs.models.run import Run


class LogLine(models.Model):
    """A line that a run or one of its nodes logged. Ids are in the order of storing."""

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
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(level__in=["debug", "info", "warning", "error"]),
                name="sm_log_level_known",
            )
        ]
        indexes: ClassVar = [models.Index(fields=["run", "id"], name="sm_log_of_run")]

    def __str__(self) -> str:
        return f"line {self.pk}"  # titles of pages show this, also to those who see no payloads
