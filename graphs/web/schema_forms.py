"""Forms made from JSON Schemas: a field for each simple property, JSON for the rest."""

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.html import escape

from graphs.definition import redaction

LONGEST = 200_000
AREA = {"rows": 6, "cols": 60, "spellcheck": "false"}


class JsonField(forms.CharField):
    """Any JSON value."""

    widget: Any = forms.Textarea

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if text in ("", None):
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is no JSON: {error}") from None

    def prepare_value(self, value: Any) -> Any:
        return (
            value
            if isinstance(value, str) and value[:1] in '{["'
            else json.dumps(value, ensure_ascii=False, indent=2)
            if value is not None
            else ""
        )

    def validate(self, value: Any) -> None:
        if self.required and value is None:
            raise forms.ValidationError("This is required.")


class ObjectField(JsonField):
    """A JSON object; nothing means an empty one."""

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        if found is not None and not isinstance(found, dict):
            raise forms.ValidationError("This is a JSON object, such as {}.")
        return found or {}


class SchemaForm(forms.Form):
    """`value()` is the object that the fields make. With `given`, it is that with what was changed; without, what was left empty is left out."""

    def __init__(
        self,
        schema: Mapping[str, Any],
        data: Any = None,
        given: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(data, **options)
        self.given = dict(given or {})
        required, shown = set(schema.get("required") or ()), redaction.shown(self.given)
        for name, each in (schema.get("properties") or {}).items():
            self.fields[name] = field_for(
                name, each if isinstance(each, dict) else {}, name in required, shown.get(name)
            )

    def value(self) -> dict[str, Any]:
        if not self.given:
            return {
                name: value for name, value in self.cleaned_data.items() if value not in (None, "")
            }
        found = dict(self.given)
        for name in self.changed_data:
            found.pop(name, None)
            if self.cleaned_data[name] not in (None, ""):
                found[name] = redaction.restored(self.cleaned_data[name], self.given.get(name))
        return found


class AnyForm(forms.Form):
    """For a schema without properties: the value itself as JSON."""

    value_ = JsonField(required=False, label="Answer (JSON)", widget=forms.Textarea(attrs=AREA))

    def value(self) -> Any:
        return self.cleaned_data["value_"]


def form_for(schema: Mapping[str, Any], data: Any = None, **options: Any) -> SchemaForm | AnyForm:
    """A form of the values that the schema takes."""
    return (
        SchemaForm(schema, data, **options)
        if schema.get("properties")
        else AnyForm(data, **options)
    )


def answer_form(state: Any, sent: Mapping[str, Any] | None) -> SchemaForm | AnyForm:
    """The form of what a state that waits is asked; as it was sent, if it was."""
    return form_for((state.waiting_for or {}).get("schema") or {}, sent, prefix=str(state.pk))


def field_for(
    name: str, schema: Mapping[str, Any], required: bool, given: Any = None
) -> forms.Field:
    """The field of one property."""
    label, said = (
        schema.get("title") or name.replace("_", " ").capitalize(),
        escape(str(schema.get("description", ""))),
    )  # Django shows help texts as they are
    usual = schema.get("default") if given is None else given
    common: dict[str, Any] = {
        "label": label,
        "help_text": said,
        "required": required,
        "initial": usual,
    }
    kind = schema.get("type")
    if schema.get("enum"):
        common["initial"] = None if usual is None else json.dumps(usual)
        return forms.TypedChoiceField(
            choices=[("", "–"), *((json.dumps(each), str(each)) for each in schema["enum"])],
            coerce=json.loads,
            empty_value=None,
            **common,
        )
    if kind == "boolean":
        common["initial"] = None if usual is None else json.dumps(bool(usual))
        choices = [("true", "yes"), ("false", "no")]
        return forms.TypedChoiceField(
            choices=choices if required else [("", "–"), *choices], coerce=lambda text: text == "true", empty_value=None,
            widget=forms.RadioSelect if required else forms.Select, **common,
        )  # fmt: skip
    if kind == "integer":
        return forms.IntegerField(
            min_value=schema.get("minimum"), max_value=schema.get("maximum"), **common
        )
    if kind == "number":
        return forms.FloatField(
            min_value=schema.get("minimum"), max_value=schema.get("maximum"), **common
        )
    if kind == "string":
        most = schema.get("maxLength") or LONGEST
        return forms.CharField(
            max_length=most,
            strip=False,
            widget=forms.TextInput
            if most <= 300
            else forms.Textarea(attrs={"rows": 3, "cols": 60}),
            **common,
        )
    return JsonField(widget=forms.Textarea(attrs=AREA), **common)
