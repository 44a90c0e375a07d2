"""What remains when a run changes or goes: who did what, and which ids are dead."""

from typing import Any, ClassVar

from django.db import models
from django.utils import timezone

from graphs.models import Namespace
from graphs.querysets import InNamespaces


class AuditEntry(models.Model):
    """Who did what to which run, and through which door. Runs are named by value, so that an entry outlives its run."""

    class Via(models.TextChoices):
        PAGE = "page"
        API = "api"
        COMMAND = "command"
        SYSTEM = "system"

    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=150)
    via = models.CharField(max_length=10, choices=Via.choices)
    action = models.CharField(max_length=20)
    namespace = models.ForeignKey(Namespace, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    run = models.BigIntegerField(null=True)
    run_id = models.CharField(max_length=200, blank=True)
    detail = models.TextField(blank=True)
    operation = models.BigIntegerField(null=True)

    objects: Any = InNamespaces.as_manager()

    class Meta:
        verbose_name_plural = "audit entries"
        indexes: ClassVar = [models.Index(fields=["run", "id"], name="audit_of_run")]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.run_id}"


class Tombstone(models.Model):
    """A deleted run's id, which nothing may bring back while this stands. `files` says that its folder may still be there."""

    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="+", db_index=False)
    run_id = models.CharField(max_length=200)
    run = models.BigIntegerField()
    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.CharField(max_length=150)
    files = models.BooleanField(default=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["namespace", "run_id"], name="tombstone_once")]
        indexes: ClassVar = [models.Index(fields=["id"], condition=models.Q(files=True), name="tombstone_with_files")]

    def __str__(self) -> str:
        return self.run_id
