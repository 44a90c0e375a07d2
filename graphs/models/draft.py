"""Drafts: what people draw before it is published. Each change is a row; the newest is the draft."""

from typing import ClassVar

from django.db import models
from django.utils import timezone


class DraftChange(models.Model):
    """One change of a graph's draft, with the definition that it made.

    Revisions count up by one, so that of two people who save at once one learns of the other.
    """

    graph = models.ForeignKey(
        "statemanager_graphs.Graph", on_delete=models.CASCADE, related_name="draft_changes"
    )
    revision = models.PositiveIntegerField()
    definition = models.JSONField()
    message = models.CharField(max_length=300, help_text="What was done, in words.")
    back_to = models.PositiveIntegerField(
        null=True, help_text="The revision that an undo or a redo brought back."
    )
    redo = models.BooleanField(default=False)
    renamed = models.JSONField(
        null=True, help_text="The old and the new id, where it renamed a node."
    )
    version = models.PositiveIntegerField(
        default=0,
        help_text="The number of the published version that was current then; 0 before the first.",
    )
    published = models.PositiveIntegerField(
        null=True,
        help_text="The number of the version that it was published as; the draft follows newer ones then.",
    )
    made_by = models.CharField(max_length=200)
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["graph_id", "-revision"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["graph", "revision"], name="sm_draft_revision_once")
        ]

    def __str__(self) -> str:
        return f"{self.revision}: {self.message}"
