"""Form fields for one value of a node's input."""

import json
from collections.abc import Mapping

from django import forms

from graphs.definition import payloads, references
from graphs.definition.types import Json
from graphs.web.json_fields import JsonField, TextField, TypedText, plain_newlines
from graphs.web.schema_forms import field_for

SMALL_AREA = {"rows": 2, "cols": 40, "spellcheck": "false"}
LIST_AREA = {**SMALL_AREA, "rows": 4}
LONG_INPUTS = ("message", "body", "where", "question", "until")  # written in several lines
LONG_TEXT = 40  # characters from which a value gets several lines
TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


class AnyField(JsonField):
    """Takes JSON, and text that is not JSON as a string."""

    def to_python(self, value: Json) -> Json:
        try:
            return super().to_python(value)
        except forms.ValidationError:
            return plain_newlines(str(value))

    def prepare_value(self, value: Json) -> str:
        """A string as it is, unless it would be read as something else when it comes back."""
        if value is None or (isinstance(value, str) and _stays_text(value)):
            return value or ""
        if isinstance(value, TypedText):
            return value
        return json.dumps(value, ensure_ascii=False, indent=2)


def _stays_text(text: str) -> bool:
    """Whether `AnyField` reads the text as a string, because it is not JSON."""
    try:
        payloads.parse(text)
    except (ValueError, RecursionError):
        return bool(text.strip())
    return False


def value_field(name: str, schema: Mapping[str, Json], given: Json) -> forms.Field:
    """A field for a literal value. A value that the schema doesn't expect gets an `AnyField`."""
    field = _field(name, schema, given)
    suffix = " (JSON)" if type(field) is JsonField else ""
    field.label = f"{label_of(name, schema)}{suffix}"
    field.help_text = schema.get("description", "")
    if schema.get("default") is not None:
        default = json.dumps(schema["default"], ensure_ascii=False)
        field.help_text = f"Default: {default}"
    return field


def label_of(name: str, schema: Mapping[str, Json]) -> str:
    return schema.get("title") or name.replace("_", " ").capitalize()


def _field(name: str, schema: Mapping[str, Json], given: Json) -> forms.Field:
    kind, choices = schema.get("type"), schema.get("enum")
    hidden = ("default", "description", "enum")
    plain = {key: value for key, value in schema.items() if key not in hidden}
    if isinstance(choices, list) and choices:
        unexpected = [] if given is None or given in choices else [given]
        return field_for(name, {**plain, "enum": [*choices, *unexpected]}, False, given)
    if kind in TYPES and (given is None or type(given) in TYPES[kind]):
        return field_for(name, plain, False, given)
    if kind == "string" and (given is None or isinstance(given, str)):
        widget = forms.Textarea(attrs=SMALL_AREA) if _is_long(given, name) else forms.TextInput()
        return TextField(required=False, strip=False, initial=given, widget=widget)
    if kind in ("array", "object") and not isinstance(given, str):
        area = forms.Textarea(attrs=LIST_AREA)
        return JsonField(required=False, initial=given, widget=area)
    return AnyField(required=False, initial=given, widget=forms.Textarea(attrs=SMALL_AREA))


def _is_long(given: str | None, name: str) -> bool:
    if name in LONG_INPUTS:
        return True
    return given is not None and (len(given) > LONG_TEXT or "\n" in given)


def whole_reference(value: Json) -> str:
    """The value if it is exactly one placeholder, written as offers are; else ""."""
    if not isinstance(value, str):
        return ""
    try:
        pieces = references.parse(value)
    except references.BadReference:
        return ""
    if len(pieces) == 1 and isinstance(pieces[0], references.Reference):
        return f"${{{{ {pieces[0]} }}}}"
    return ""
