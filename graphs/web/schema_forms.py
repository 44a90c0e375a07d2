"""Forms made from JSON Schemas: a field for each simple property, and JSON for the rest."""

import json
from collections.abc import Mapping
from typing import Protocol

from django import forms
from django.utils.html import escape
from typing_extensions import TypedDict

from graphs.definition import redaction
from graphs.definition.types import Json, JsonObject
from graphs.web.json_fields import IntegerField, JsonField, NumberField, TextField
from graphs.web.touched_form import TouchedForm

FormData = Mapping[str, Json]  # a QueryDict
MAX_TEXT = 200_000  # characters
MAX_TEXT_IN_LINE = 300  # longer texts get an area
# The values that the fields of these types can show. Others are shown as JSON.
_SHOWN: dict[str, type | tuple[type, ...]] = {
    "boolean": bool,
    "integer": (int, float),
    "number": (int, float),
    "string": str,
}
AREA = {"rows": 6, "cols": 60, "spellcheck": "false"}


class SchemaForm(TouchedForm):
    """A field for each property of a schema; `value()` is the object that the fields make.

    With `original`, the form edits that object: `value()` is the original with the changed fields.
    Without it, empty fields are left out. Secrets that were shown as dots keep their values.
    """

    def __init__(
        self,
        schema: Mapping[str, Json],
        data: FormData | None = None,
        original: Mapping[str, Json] | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(data, prefix=prefix)
        self.original = dict(original or {})
        shown = redaction.shown(self.original)
        required = set(schema.get("required") or ())
        self.members: Mapping[str, Json] = schema.get("properties") or {}
        shown_members = redaction.schema_shown({"properties": self.members})["properties"]
        for name, member in shown_members.items():
            member_schema = member if isinstance(member, dict) else {}
            self.fields[name] = field_for(name, member_schema, name in required, shown.get(name))

    def value(self) -> JsonObject:
        if not self.original:
            given = {name: value for name, value in self.cleaned_data.items() if not _empty(value)}
            return {name: self._restored(name, value) for name, value in given.items()}

        edited = dict(self.original)
        for name in self.changed_data:
            edited.pop(name, None)
            value = self.cleaned_data[name]
            if not _empty(value):
                edited[name] = redaction.restored(value, self.original.get(name))
        return edited

    def forgiven(self, name: str) -> bool:
        """What the object has already stays, even if its field would not accept it."""
        return name in self.original

    def _restored(self, name: str, value: Json) -> Json:
        """The value, or the default that was shown as dots."""
        member = self.members.get(name)
        default = member.get("default") if isinstance(member, dict) else None
        return value if default is None else redaction.restored(value, default)


def _empty(value: Json) -> bool:
    return value is None or value == ""


class AnyForm(forms.Form):
    """The form for a schema without properties: the value itself, as JSON."""

    value_ = JsonField(required=False, label="Answer (JSON)", widget=forms.Textarea(attrs=AREA))

    def value(self) -> Json:
        return self.cleaned_data["value_"]


class Waiting(Protocol):
    """A state that waits for a person."""

    @property
    def pk(self) -> object: ...

    @property
    def waiting_for(self) -> Json: ...


def form_for(
    schema: Mapping[str, Json], data: FormData | None = None, prefix: str | None = None
) -> SchemaForm | AnyForm:
    """A form for a value that the schema accepts."""
    if schema.get("properties"):
        return SchemaForm(schema, data, prefix=prefix)
    return AnyForm(data, prefix=prefix)


def answer_form(state: Waiting, data: FormData | None) -> SchemaForm | AnyForm:
    """The form for the answer that a state waits for, filled with `data` if it was sent."""
    schema = (state.waiting_for or {}).get("schema") or {}
    return form_for(schema, data, prefix=str(state.pk))


class FieldOptions(TypedDict):
    label: str
    help_text: str
    required: bool
    initial: Json


def field_for(
    name: str, schema: Mapping[str, Json], required: bool, initial: Json = None
) -> forms.Field:
    """The field for a property of a schema. It shows `initial`, or else the schema's default."""
    options = FieldOptions(
        label=schema.get("title") or name.replace("_", " ").capitalize(),
        # Django doesn't escape help texts, and a schema comes from outside.
        help_text=escape(str(schema.get("description", ""))),
        required=required,
        initial=schema.get("default") if initial is None else initial,
    )
    if schema.get("enum"):
        return _choice_field(schema["enum"], options)
    kind = schema.get("type")
    shown = options["initial"]
    if shown is not None and kind in _SHOWN and not isinstance(shown, _SHOWN[kind]):
        return JsonField(widget=forms.Textarea(attrs=AREA), **options)
    match kind:
        case "boolean":
            return _yes_no_field(options)
        case "integer":
            return IntegerField(**_bounds(schema), **options)
        case "number":
            return NumberField(**_bounds(schema), **options)
        case "string":
            return _text_field(schema.get("maxLength") or MAX_TEXT, options)
    return JsonField(widget=forms.Textarea(attrs=AREA), **options)


def _choice_field(values: list[Json], options: FieldOptions) -> forms.Field:
    """A menu of JSON values. Each is sent as JSON, so that 1 and "1" are different choices."""
    initial = options["initial"]
    options["initial"] = None if initial is None else json.dumps(initial)
    choices = [("", "–"), *((json.dumps(value), str(value)) for value in values)]
    return forms.TypedChoiceField(choices=choices, coerce=json.loads, empty_value=None, **options)


def _yes_no_field(options: FieldOptions) -> forms.Field:
    """Radio buttons if an answer is required, and otherwise a menu with an empty choice."""
    required = options["required"]
    initial = options["initial"]
    options["initial"] = None if initial is None else json.dumps(bool(initial))
    choices = [("true", "yes"), ("false", "no")]
    return forms.TypedChoiceField(
        choices=choices if required else [("", "–"), *choices],
        coerce=lambda text: text == "true",
        empty_value=None,
        widget=forms.RadioSelect if required else forms.Select,
        **options,
    )


class Bounds(TypedDict):
    min_value: Json
    max_value: Json


def _bounds(schema: Mapping[str, Json]) -> Bounds:
    return Bounds(min_value=schema.get("minimum"), max_value=schema.get("maximum"))


def _text_field(max_length: int, options: FieldOptions) -> forms.Field:
    area = forms.Textarea(attrs={"rows": 3, "cols": 60})
    is_short = max_length <= MAX_TEXT_IN_LINE
    has_lines = "\n" in str(options["initial"] or "")
    return TextField(
        max_length=max_length,
        strip=False,
        widget=forms.TextInput if is_short and not has_lines else area,
        **options,
    )
