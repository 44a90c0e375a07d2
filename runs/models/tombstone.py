"""The ids of deleted runs."""

from typing import Any, ClassVar, Self

from django.db import models
from django.utils import timezone

from graphs.definition import errors
from graphs.models import Namespace
from graphs.models.querysets import InNamespaces


class TombstoneQuerySet(InNamespaces):
    def of(self, run_id: str) -> Self:
        """The tombstones of this run id, in all namespaces."""
        return self.filter(run_id=run_id.replace("\x00", ""))

    def refuse(self, namespace: int, run_id: str) -> None:
        """Raises Gone if a run with this id was deleted from the namespace.

        Call it after the row of the new run was inserted, in the same transaction. The insertion
        waits for a deletion of the same id that is not committed yet, so its tombstone is seen.
        """
        tombstone = self.of(run_id).filter(namespace=namespace).first()
        if tombstone is not None:
            raise errors.Gone(f"{tombstone.sentence} Choose another id.")


class Tombstone(models.Model):
    """The id of a deleted run. No new run can have the id while there is a tombstone.

    `files` means that the run's folder may still be in the storage.
    """

    namespace = models.ForeignKey(
        Namespace, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    run_id = models.CharField(max_length=200)
    run = models.BigIntegerField()
    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.CharField(max_length=150)
    files = models.BooleanField(default=True)

    objects: Any = TombstoneQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["namespace", "run_id"], name="sm_tombstone_once")
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["id"], condition=models.Q(files=True), name="sm_tombstone_with_files"
            )
        ]

    def __str__(self) -> str:
        return self.run_id

    @property
    def sentence(self) -> str:
        """What happened to the run, for answers with status 410."""
        return (
            f"The run {self.run_id[:200]!r} was deleted {self.at:%Y-%m-%d %H:%M} UTC "
            f"by {self.actor}."
        )
