"""Notes of people on runs."""

from typing import ClassVar

from django.db import models
from django.utils import timezone

from runs.models.run import Run


class RunNote(models.Model):
    """What somebody wrote about a run, for everybody who sees the run. It is not changed later."""

    run = models.ForeignKey(
        Run,
        on_delete=models.CASCADE,
        related_name="notes",
        db_index=False,
        db_constraint=False,  # the release before this one can delete the run
    )
    author = models.CharField(max_length=150)
    text = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "note"
        indexes: ClassVar = [models.Index(fields=["run", "id"], name="sm_note_of_run")]

    def __str__(self) -> str:
        return f"note {self.pk} by {self.author}"
