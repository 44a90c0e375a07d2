"""Run templates."""

from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from graphs.definition import cron
from graphs.models import Dataset, Graph, GraphVersion, Namespace
from graphs.models.querysets import InNamespaces
from runs.models.fields import json_field


class RunTemplate(models.Model):
    """A saved run configuration.

    Without a version, runs use the newest version of the graph. With an expression, the template is
    launched automatically on this schedule.
    """

    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="templates")
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    graph = models.ForeignKey(Graph, on_delete=models.CASCADE, related_name="templates")
    version = models.ForeignKey(
        GraphVersion, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    dataset = models.ForeignKey(
        Dataset, null=True, blank=True, on_delete=models.SET_NULL, related_name="templates"
    )
    inputs = json_field()
    store = json_field()
    labels = json_field()
    workspace = models.CharField(max_length=200, blank=True)
    expression = models.CharField(
        "schedule",
        max_length=200,
        blank=True,
        help_text="minute hour day-of-month month day-of-week; leave empty for no schedule",
    )
    time_zone = models.CharField(
        max_length=60, default="UTC", help_text="An IANA time zone, such as Europe/Berlin."
    )
    next_at = models.DateTimeField(null=True, editable=False)
    last_fired_at = models.DateTimeField(null=True, editable=False)
    error = models.TextField(blank=True, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)

    objects: Any = InNamespaces.as_manager()

    class Meta:
        verbose_name = "run template"
        ordering = ["namespace__name", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["namespace", "name"], name="sm_template_once_per_namespace"
            ),
            models.CheckConstraint(condition=~Q(name=""), name="sm_template_named"),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["next_at"], condition=Q(next_at__isnull=False), name="sm_template_due"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def runs_version(self) -> GraphVersion | None:
        """The version that the next run will have; None if nothing was published yet."""
        return self.version or self.graph.current

    def clean(self) -> None:
        if self.expression:
            try:
                cron.check(self.expression, self.time_zone)
            except ValueError as error:
                raise ValidationError(str(error)) from None
