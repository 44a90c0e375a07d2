"""Schedules on which graphs are started."""

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from graphs.definition import cron
from graphs.models.graph import Graph


class Schedule(models.Model):
    """Due times by a cron expression, and how far they have been met.

    `graphs.definition.cron` reads the expression, `runs.actions.schedules` starts the runs.
    """

    expression = models.CharField(
        max_length=200, help_text="Five fields: minute hour day-of-month month day-of-week."
    )
    time_zone = models.CharField(
        max_length=60, default="UTC", help_text="An IANA time zone, such as Europe/Berlin."
    )
    enabled = models.BooleanField(default=True)
    next_at = models.DateTimeField(null=True, editable=False)
    last_fired_at = models.DateTimeField(null=True, editable=False)
    missed = models.PositiveIntegerField(
        default=0,
        editable=False,
        help_text="How many due times passed while no supervisor was running.",
    )
    error = models.TextField(blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.expression} ({self.time_zone})"

    def clean(self) -> None:
        try:
            cron.check(self.expression, self.time_zone)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class CronTrigger(Schedule):
    """A schedule on which a graph is started."""

    graph = models.ForeignKey(Graph, on_delete=models.CASCADE, related_name="triggers")
    by_template = models.BooleanField(
        default=False,
        editable=False,
        help_text="Part of a graph template, so that the next template may remove it.",
    )

    class Meta:
        verbose_name = "cron trigger"
        ordering = ["graph_id", "expression"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["graph", "expression", "time_zone"], name="sm_trigger_once_per_graph"
            )
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["next_at"],
                condition=Q(enabled=True, next_at__isnull=False),
                name="sm_trigger_due",
            )
        ]
