"""Drafts: definitions that people edit before they publish them.

Each change is a row, and the newest one is the draft.
"""

from typing import ClassVar

from django.db import models
from django.utils import timezone


class DraftChange(models.Model):
    """One change of a graph's draft, with the definition after it.

    Revisions of a graph are numbered without gaps and are unique, so that of two people who save
    at the same time only one succeeds and the other one notices.
    """

    graph = models.ForeignKey(
        "statemanager_graphs.Graph", on_delete=models.CASCADE, related_name="draft_changes"
    )
    revision = models.PositiveIntegerField()
    definition = models.JSONField()
    message = models.CharField(max_length=300, help_text="What the change did.")
    back_to = models.PositiveIntegerField(
        null=True, help_text="The revision to which an undo or a redo went."
    )
    redo = models.BooleanField(default=False)
    renamed = models.JSONField(
        null=True, help_text="The old and the new id of the node, if the change renamed one."
    )
    version = models.PositiveIntegerField(
        default=0,
        help_text="The number of the version that was current at that time; 0 if there was none.",
    )
    published = models.PositiveIntegerField(
        null=True,
        help_text=(
            "The number of the version as which the change was published."
            " From then on the draft follows newer versions."
        ),
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
