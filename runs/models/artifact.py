"""Files of runs."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from runs.models.run import Run


class Artifact(models.Model):
    """A file that a run made: a `file` for people, or a `table` that passes rows between nodes."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="artifacts")
    state = models.UUIDField()
    identifier = models.CharField(max_length=200)
    kind = models.CharField(
        max_length=5, choices=[("file", "file"), ("table", "table")], default="file"
    )
    name = models.CharField(max_length=255)
    file = models.CharField(max_length=500, unique=True)
    size = models.BigIntegerField()
    checksum = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(size__gte=0), name="sm_artifact_size_positive"),
            models.CheckConstraint(condition=~Q(name=""), name="sm_artifact_named"),
        ]

    def __str__(self) -> str:
        return self.name
