"""The audit trail: who did what, to which run or which other thing."""

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models
from django.dispatch import receiver
from django.utils import timezone

from graphs.auth.acts import acted
from graphs.auth.callers import Caller
from graphs.models import Namespace, clock
from graphs.models.querysets import InNamespaces

if TYPE_CHECKING:
    from runs.models.run import Run

MAX_DETAIL_LENGTH = 2000
FAILED_LOGIN = "login_failed"
FAILED_LOGIN_AGE = timedelta(days=90)
ACTIONS_ON_RUNS = (
    "start", "create_states", "rerun", "retry", "answer", "cancel", "pause", "resume",
    "archive", "unarchive", "label", "set_status", "delete", "report", "document", "mark",
    "download", "note", "delete_note",
    "fork", "delete_checkpoint", "release",
    "repeat_rerun", "change_recurring", "delete_recurring",
)  # fmt: skip
BULK_ACTIONS = tuple(
    f"bulk_{action}"
    for action in (
        "delete", "archive", "unarchive", "rerun", "retry", "cancel", "pause", "resume", "label",
        "set_status", "export", "stop",
    )
)  # fmt: skip
ACTIONS = (
    *ACTIONS_ON_RUNS,
    *BULK_ACTIONS,
    "export", "save_view", "delete_view", "save_template", "change_template", "delete_template",
    "create_graph", "change_draft", "publish", "put_graph", "roll_back", "rename_graph",
    "delete_graph", "export_graph", "set_secret", "delete_secret", "load_dataset",
    "delete_dataset", "register_nodes", "create_namespace", "create_key", "revoke_key",
    "admin_add", "admin_change", "admin_delete", "admin_action",
    "login", FAILED_LOGIN, "logout", "password", "revoke_token", "end_session", "second_factor",
    "set_time_zone", "add_schedule", "change_schedule", "delete_schedule",
    "add_rule", "change_rule", "delete_rule", "test_rule",
)  # fmt: skip


def actions() -> list[tuple[str, str]]:
    """The actions as choices. A new one needs no migration."""
    return [(action, action) for action in ACTIONS]


class AuditQuerySet(InNamespaces):
    """Writes audit entries, each in the transaction of the action that it records."""

    def record(self, caller: Caller, action: str, run: "Run", detail: str = "") -> None:
        """Record that the caller did this to the run."""
        self.entry(caller, action, run, detail).save(force_insert=True)

    def entry(self, caller: Caller, action: str, run: "Run", detail: str = "") -> "AuditEntry":
        """The entry that `record` stores."""
        return self.model(**_values(caller, action, run.namespace_id, run.pk, run.run_id, detail))

    def record_many(
        self, caller: Caller, action: str, runs: Iterable[tuple[int, int, str]], detail: str = ""
    ) -> None:
        """Record the same action on several runs, given as (namespace id, pk, run id)."""
        entries = (self.model(**_values(caller, action, *run, detail)) for run in runs)
        self.bulk_create(entries, batch_size=500)

    def record_global(
        self, caller: Caller, action: str, detail: str, namespace: int | None = None
    ) -> None:
        """Record an action that is not about a single run, such as an export."""
        self.create(**_values(caller, action, namespace, None, "", detail))

    def forget_failed_logins(self) -> None:
        """Delete old failed logins: strangers write these entries. All others are kept."""
        oldest = clock.now() - FAILED_LOGIN_AGE
        self.filter(action=FAILED_LOGIN, at__lt=oldest).delete()


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
    """Who did what, and through which door.

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
    action = models.CharField(max_length=20, choices=actions)
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
        indexes: ClassVar = [
            models.Index(fields=["run", "id"], name="sm_audit_of_run"),
            models.Index(
                fields=["at"],
                condition=models.Q(action=FAILED_LOGIN),
                name="sm_audit_failed_logins",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.run_id or self.detail}"


@receiver(acted)
def write_act(
    *, caller: Caller, action: str, namespace: int | None, detail: str, **_: object
) -> None:
    """Record what was done to graphs and what belongs to them."""
    AuditEntry.objects.record_global(caller, action, detail, namespace)
