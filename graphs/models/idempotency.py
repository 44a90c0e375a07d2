"""The responses to requests with an `Idempotency-Key`."""

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

KEPT_FOR = timedelta(hours=24)


class IdempotencyKey(models.Model):
    """A request that its caller may repeat, with the response to it.

    Without a status, the request is still being processed, or the process died before it changed
    anything.
    """

    caller = models.CharField(max_length=200)
    key = models.CharField(max_length=255)
    digest = models.CharField(
        max_length=64, help_text="A digest of the method, path, query and body."
    )
    rights = models.CharField(
        max_length=64,
        blank=True,
        help_text="A digest of the caller's rights at the time of the response.",
    )
    run_id = models.CharField(
        max_length=200,
        blank=True,
        help_text="The run in the response, which is erased when the run is deleted.",
    )
    location = models.CharField(max_length=500, blank=True)
    status = models.PositiveSmallIntegerField(null=True)
    answer = models.TextField(
        blank=True, help_text="The response as JSON; empty if it was too large to store."
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
    """Delete the keys that are older than KEPT_FOR."""
    IdempotencyKey.objects.filter(created_at__lt=Now() - KEPT_FOR).delete()


def forget_answers(run_ids: models.QuerySet[models.Model, object]) -> None:
    """Erase the responses about runs that are being deleted.

    The keys stay, so that a repeated request is still recognised.
    """
    IdempotencyKey.objects.filter(run_id__in=run_ids).exclude(run_id="").update(answer="")
