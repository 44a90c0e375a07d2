"""Constraints that several models use."""

from django.db import models
from django.db.models import Q


def not_empty(field: str, name: str) -> models.CheckConstraint:
    """A constraint that keeps a text column from being empty."""
    return models.CheckConstraint(condition=~Q(**{field: ""}), name=name)
