"""The time limits of runs."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run


class RunDeadline(models.Model):
    """How long a run may wait for its start, and how long it may take from then on, in seconds.

    `at` is a time before which no limit can be over; it is NULL once the run needs no watching. A
    run without limits has no row. Old code that deletes runs doesn't know this table: hence no
    constraint.
    """

    run = models.OneToOneField(
        Run, on_delete=models.CASCADE, related_name="deadline", db_constraint=False
    )
    start_within = models.FloatField(null=True, help_text="Seconds that it may wait for its start.")
    start_by = models.DateTimeField(null=True, help_text="When these seconds are over.")
    timeout = models.FloatField(null=True, help_text="Seconds that the run may take.")
    retried_at = models.DateTimeField(
        null=True, help_text="When the run was retried, which gives it all of its time again."
    )
    at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["at"], condition=models.Q(at__isnull=False), name="sm_run_deadline_at"
            )
        ]

    def __str__(self) -> str:
        limits = []
        if self.start_by:
            limits.append(f"start by {self.start_by:%Y-%m-%d %H:%M:%S} UTC")
        if self.timeout:
            limits.append(f"end after {self.timeout:g} s")
        return ", ".join(limits)
