"""What was answered to requests that carried an `Idempotency-Key`."""

from datetime import timedelta
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone

KEPT = timedelta(hours=24)


class IdempotencyKey(models.Model):
    """A request that its caller may repeat; without a status it is being answered, or its process died before it changed anything."""

    caller = models.CharField(max_length=200)
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, help_text="Of method, path, query and body.")
    rights = models.CharField(
        max_length=64,
        blank=True,
        help_text="A digest of what the caller might do when it was answered.",
    )
    run_id = models.CharField(
        max_length=200,
        blank=True,
        help_text="The run that the answer tells of; it goes with the run.",
    )
    location = models.CharField(max_length=500, blank=True)
    status = models.PositiveSmallIntegerField(null=True)
    answer = models.TextField(
        blank=True, help_text="JSON; nothing when it was too large to be kept."
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "idempotency key"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["caller", "key"], name="sm_idempotency_key_once")
        ]
        indexes: ClassVar = [
            models.Index(fields=["created_at"], name="sm_idempotency_key_by_age"),
            models.Index(
                fields=["run_id"], condition=~models.Q(run_id=""), name="sm_idempotency_key_of_run"
            ),
        ]

    def __str__(self) -> str:
        return self.key


def forget_old() -> None:
    """Drop the answers that nobody repeats any more."""
    IdempotencyKey.objects.filter(created_at__lt=timezone.now() - KEPT).delete()


def forget_answers(run_ids: models.QuerySet[Any]) -> None:
    """Blank the answers that tell of runs which are being deleted; a repeat is still known to be one."""
    IdempotencyKey.objects.filter(run_id__in=run_ids).exclude(run_id="").update(answer="")
