"""The ids of deleted runs."""

from typing import Any, ClassVar, Self

from django.db import models
from django.utils import timezone

from graphs.definition import errors
from graphs.models import Namespace
from graphs.models.querysets import InNamespaces


class TombstoneQuerySet(InNamespaces):
    def of(self, run_id: str) -> Self:
        """The deleted runs that had this id, in any namespace."""
        return self.filter(run_id=run_id.replace("\x00", ""))

    def refuse(self, namespace: int, run_id: str) -> None:
        """Raises Gone if a run with this id was deleted from the namespace.

        To be called after the row of the new run was inserted, in the same transaction: only then
        can no deletion slip in between.
        """
        if found := self.of(run_id).filter(namespace=namespace).first():
            raise errors.Gone(f"{found.sentence} Choose another id.")


class Tombstone(models.Model):
    """A deleted run's id, which nothing may bring back while this stands. `files` says that its folder may still be there."""

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
        """What happened, for answers with status 410."""
        return f"The run {self.run_id[:200]!r} was deleted {self.at:%Y-%m-%d %H:%M} UTC by {self.actor}."
