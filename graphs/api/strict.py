"""The serializers and fields of all bodies, which take what they are given and nothing else.

DRF's own fields cut blanks off texts, read `1` as `"1"` and `"yes"` as true, and its serializers
ignore members that they don't know, so that a misspelt option has no effect and nobody is told.
These refuse instead. Serializers import this module as they would `rest_framework.serializers`.
"""

from collections.abc import Mapping
from typing import Any

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.fields import empty

from graphs.definition.names import parse_id
from graphs.definition.types import Json, JsonObject

__all__ = [
    "BooleanField",
    "CharField",
    "ChoiceField",
    "DateTimeField",
    "DictField",
    "FileField",
    "FloatField",
    "IdField",
    "IntegerField",
    "JSONField",
    "ListField",
    "Serializer",
    "SerializerMethodField",
    "UUIDField",
    "empty",
]

DateTimeField = serializers.DateTimeField
DictField = serializers.DictField
FileField = serializers.FileField
JSONField = serializers.JSONField
ListField = serializers.ListField
SerializerMethodField = serializers.SerializerMethodField


class KnownMembers:
    # For serializers: a member that no field reads is an error. (A docstring would be shown in the
    # schema for each serializer that has none.)

    def to_internal_value(self, data: Json) -> Any:
        """Raises ValidationError, which names unknown members beside all other errors."""
        unknown = _unknown(self, data)
        try:
            value = super().to_internal_value(data)  # type: ignore[misc]
        except ValidationError as error:
            raise ValidationError({**unknown, **dict(error.detail)}) from None  # type: ignore[arg-type]
        if unknown:
            raise ValidationError(unknown)
        return value


def refuse_unknown(serializer: serializers.BaseSerializer, data: Json) -> None:
    """Raise ValidationError for the members of an object that no field of the serializer reads."""
    unknown = _unknown(serializer, data)
    if unknown:
        raise ValidationError(unknown)


def _unknown(serializer: Any, data: Json) -> JsonObject:
    if not isinstance(data, Mapping):
        return {}
    writable = {field.field_name for field in serializer._writable_fields}
    return {name: ["There is no such member."] for name in data if name not in writable}


class Serializer(KnownMembers, serializers.Serializer):
    pass


class CharField(serializers.CharField):
    """A text with its blanks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Json) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class IdField(CharField):
    """The id of a row: a whole number or its digits. Answers have ids in either form."""

    def to_internal_value(self, data: Json) -> str:
        is_number = isinstance(data, int) and not isinstance(data, bool)
        text = super().to_internal_value(str(data) if is_number else data)
        if parse_id(text) is None:
            self.fail("invalid")
        return text


class ChoiceField(serializers.ChoiceField):
    def to_internal_value(self, data: Json) -> Any:
        if not isinstance(data, str):
            self.fail("invalid_choice", input=data)
        return super().to_internal_value(data)


class UUIDField(serializers.UUIDField):
    def to_internal_value(self, data: Json) -> Any:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class IntegerField(serializers.IntegerField):
    def to_internal_value(self, data: Json) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class FloatField(serializers.FloatField):
    def to_internal_value(self, data: Json) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return super().to_internal_value(data)


class BooleanField(serializers.BooleanField):
    """true or false. Forms have texts only, so there these words count."""

    def to_internal_value(self, data: Json) -> bool:
        is_form = isinstance(getattr(self.root, "initial_data", None), QueryDict)
        if is_form and isinstance(data, str):
            data = {"true": True, "false": False}.get(data)
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data
