"""Columns that several models share."""

from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models


def json_field(default: Any = dict, **options: Any) -> models.JSONField:
    """A JSON column that also stores dates and UUIDs; `default` makes its empty value."""
    return models.JSONField(default=default, blank=True, encoder=DjangoJSONEncoder, **options)
