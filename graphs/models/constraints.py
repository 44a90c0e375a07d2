"""Constraints that several models share."""

from django.db import models
from django.db.models import Q


def not_empty(field: str, name: str) -> models.CheckConstraint:
    """A constraint that a text column is never empty."""
    return models.CheckConstraint(condition=~Q(**{field: ""}), name=name)
