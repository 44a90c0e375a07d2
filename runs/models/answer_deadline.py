"""When the answers to questions are overdue."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run


class AnswerDeadline(models.Model):
    """The time by which a person is to answer a state; NULL once it is over and was acted upon.

    A state that waits without a limit has no row. The row of a state that was cancelled stays until
    its time is over, or its run is deleted. Old code that deletes runs doesn't know this table:
    hence no constraint.
    """

    state = models.UUIDField(primary_key=True)
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="answer_deadlines", db_constraint=False
    )
    at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["at"], condition=models.Q(at__isnull=False), name="sm_answer_deadline_at"
            )
        ]

    def __str__(self) -> str:
        return f"answer by {self.at:%Y-%m-%d %H:%M:%S} UTC" if self.at else "overdue"
