"""The audit trail: who did what to which run."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models
from django.utils import timezone

from graphs.auth.callers import Caller
from graphs.models import Namespace
from graphs.models.querysets import InNamespaces

if TYPE_CHECKING:
    from runs.models.run import Run

MAX_DETAIL_LENGTH = 2000


class AuditQuerySet(InNamespaces):
    """Writes audit entries, each in the transaction of the action that it records."""

    def record(self, caller: Caller, action: str, run: "Run", detail: str = "") -> None:
        """Record that the caller did this to the run."""
        self.create(**_values(caller, action, run.namespace_id, run.pk, run.run_id, detail))

    def record_many(
        self, caller: Caller, action: str, runs: Iterable[tuple[int, int, str]], detail: str = ""
    ) -> None:
        """Record the same action on several runs, given as (namespace id, pk, run id)."""
        entries = (self.model(**_values(caller, action, *run, detail)) for run in runs)
        self.bulk_create(entries, batch_size=500)

    def record_global(self, caller: Caller, action: str, detail: str) -> None:
        """Record an action that is not about a single run, such as an export."""
        self.create(**_values(caller, action, None, None, "", detail))


def _values(
    caller: Caller, action: str, namespace: int | None, pk: int | None, run_id: str, detail: str
) -> dict[str, object]:
    return {
        "actor": caller.label[:150],
        "via": caller.via,
        "action": action,
        "namespace_id": namespace,
        "run": pk,
        "run_id": run_id,
        "detail": detail[:MAX_DETAIL_LENGTH],
        "operation": caller.operation,
    }


class AuditEntry(models.Model):
    """Who did what to which run, and through which door.

    Runs are named by their values and not by foreign keys, so that an entry outlives its run.
    """

    class Via(models.TextChoices):
        PAGE = "page"
        API = "api"
        COMMAND = "command"
        SYSTEM = "system"

    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=150)
    via = models.CharField(max_length=10, choices=Via.choices)
    action = models.CharField(max_length=20)
    namespace = models.ForeignKey(
        Namespace, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    run = models.BigIntegerField(null=True)
    run_id = models.CharField(max_length=200, blank=True)
    detail = models.TextField(blank=True)
    operation = models.BigIntegerField(null=True)

    objects: Any = AuditQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "audit entries"
        indexes: ClassVar = [models.Index(fields=["run", "id"], name="sm_audit_of_run")]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.run_id}"
