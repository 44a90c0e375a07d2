"""Fields that several models use."""

from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models


def json_field(default: Any = dict, **options: Any) -> models.JSONField:
    """A JSON field that also stores dates and UUIDs. `default` is called for new rows."""
    return models.JSONField(default=default, blank=True, encoder=DjangoJSONEncoder, **options)
