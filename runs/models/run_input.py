"""The values of inputs by which runs are searched."""

import hashlib
import uuid
from decimal import Decimal
from typing import ClassVar

from django.db import models

from graphs.definition.types import Json
from graphs.models import IndexedInput
from runs.models.run import Run


class RunInput(models.Model):
    """That a run has a value at a path that its graph declares, and the digest of the value.

    The digest is NULL for a list or an object. It has the same size for every value, tells letters
    apart that a collation of the database would take for equal, and what runs work on is stored in
    one place only. Old code that deletes runs doesn't know this table: hence no constraint.
    """

    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    input = models.ForeignKey(
        IndexedInput, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    digest = models.UUIDField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "input"], name="sm_run_input_once")
        ]
        indexes: ClassVar = [
            models.Index(fields=["input", "digest", "run"], name="sm_run_input_by_value")
        ]

    def __str__(self) -> str:
        return f"{self.input} in {self.run}"


def digest_of(value: Json) -> uuid.UUID | None:
    """The digest of a text, a number, a boolean or null; None for a list or an object.

    Equal numbers have one digest, however they are written: 42, 42.0 and 4.2e1.
    """
    text = _exact(value)
    if text is None:
        return None
    return uuid.UUID(bytes=hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16])


def _exact(value: Json) -> str | None:
    """A text that no value of another type or with other letters has."""
    if value is None or isinstance(value, bool):
        return f"constant {value}"
    if isinstance(value, str):
        return f"text {value}"
    if isinstance(value, int | float):
        # PostgreSQL returns 1e23 as an integer, SQLite as a float whose exact value is another.
        number = Decimal(repr(value)) if isinstance(value, float) else value
        return f"number {int(number) if number == int(number) else number}"
    return None
