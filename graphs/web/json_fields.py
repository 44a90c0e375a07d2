"""Form fields that take values as they are: JSON, numbers, and texts of several lines."""

import json
import re

from django import forms

from graphs.definition import payloads
from graphs.definition.types import Json

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ZEROS = re.compile(r"\.0*$")


def plain_newlines(text: str) -> str:
    """The text with the line ends that it had before a browser sent it."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class TypedText(str):
    """What a person typed into a field for JSON."""


class JsonField(forms.CharField):
    """A JSON value in an area. An empty area is None."""

    widget: forms.Widget | type[forms.Widget] = forms.Textarea

    def bound_data(self, data: Json, initial: Json) -> Json:
        return TypedText(data) if isinstance(data, str) else data

    def to_python(self, value: Json) -> Json:
        text = super().to_python(value)
        if text in ("", None):
            return None
        try:
            return payloads.parse(text)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not valid JSON: {error}") from None

    def prepare_value(self, value: Json) -> Json:
        """The text to show. What a person typed stays as it is; any other value becomes JSON."""
        if value is None:
            return ""
        if isinstance(value, TypedText):
            return value
        return json.dumps(value, ensure_ascii=False, indent=2)

    def validate(self, value: Json) -> None:
        if self.required and value is None:
            raise forms.ValidationError("This field is required.")


class ObjectField(JsonField):
    """A JSON object. An empty area is an empty object."""

    def to_python(self, value: Json) -> Json:
        parsed = super().to_python(value)
        if parsed is not None and not isinstance(parsed, dict):
            raise forms.ValidationError("Enter a JSON object, such as {}.")
        return parsed or {}


class TextField(forms.CharField):
    """A text whose lines end with a line feed, whatever the browser sends."""

    def to_python(self, value: Json) -> Json:
        text = super().to_python(value)
        return plain_newlines(text) if text else text


class IntegerField(forms.IntegerField):
    """An integer of any length in the digits 0 to 9, without separators."""

    def to_python(self, value: Json) -> Json:
        text = _ZEROS.sub("", str(value).strip())
        if value in self.empty_values:
            return None
        if not _INTEGER.fullmatch(text):
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        return super().to_python(text)


class NumberField(forms.FloatField):
    """A number as in JSON: 5 is an integer and stays exact, and 5.0 is a float."""

    def to_python(self, value: Json) -> Json:
        text = str(value).strip()
        if value in self.empty_values:
            return None
        if not _NUMBER.fullmatch(text):
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid")
        if not _INTEGER.fullmatch(text):
            return super().to_python(text)
        try:
            return int(text)
        except ValueError:  # it has thousands of digits
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid") from None

    def validate(self, value: Json) -> None:
        """Like `FloatField`, which can't tell whether a very large integer is finite."""
        if isinstance(value, int):
            forms.Field.validate(self, value)
        else:
            super().validate(value)
