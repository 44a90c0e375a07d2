"""The form of a graph's settings: the inputs of its runs, failures, and the store."""

import re
from collections.abc import Mapping

from django import forms
from django.forms.boundfield import BoundField

from graphs.definition import merge, renames, value_paths
from graphs.definition.schema import MAX_INDEXED_INPUTS
from graphs.definition.types import Definition, Json, JsonObject
from graphs.editor import limit_fields
from graphs.editor.value_fields import AnyField
from graphs.web.json_fields import JsonField, ObjectField
from graphs.web.schema_forms import AREA
from graphs.web.touched_form import MergedForm, set_or_remove

TYPES = [
    ("string", "text"),
    ("integer", "whole number"),
    ("number", "number"),
    ("boolean", "yes or no"),
    ("array", "list"),
    ("object", "object"),
    ("", "anything"),
]
PARTS = ("name", "type", "title", "default", "needed")
OTHER_FIELDS = (
    "schema",
    "indexed_inputs",
    "failure_policy",
    "max_failures",
    *limit_fields.NAMES,
    "store",
)
NAME = re.compile(r"^[^\s.${}]{1,100}$")
MAX_FAILURES = r"^(\d{1,9}|(100|\d{1,2})(\.\d+)?%)$"
NEW_INPUT: JsonObject = {"type": "string"}


class DefaultField(AnyField):
    """The default of an input as JSON. Text that is not JSON is a string."""

    widget = forms.TextInput


class PathsField(forms.CharField):
    """Paths to values, one a line. The value is a list of them."""

    widget = forms.Textarea

    def to_python(self, value: Json) -> Json:
        lines = (line.strip() for line in str(super().to_python(value) or "").splitlines())
        return [line for line in lines if line]

    def validate(self, value: Json) -> None:
        if len(value) > MAX_INDEXED_INPUTS:
            raise forms.ValidationError(f"Enter at most {MAX_INDEXED_INPUTS} paths.")
        for line in value:
            try:
                value_paths.parse(line)
            except ValueError as error:
                raise forms.ValidationError(f"{line[:80]}: {error}.") from None

    def prepare_value(self, value: Json) -> Json:
        return "\n".join(map(str, value)) if isinstance(value, list) else value


class SettingsForm(MergedForm):
    """The settings of a graph. `definition()` is the definition with what the user changed.

    The inputs are rows, or one field of JSON if their schema has more than rows can show.
    """

    def __init__(self, definition: Definition, data: Mapping[str, str] | None = None) -> None:
        super().__init__(data)
        self.former = definition
        self.schema: JsonObject = definition.get("inputs") or {}
        self.has_rows = _is_simple(self.schema)
        self.count = 0
        if self.has_rows:
            self._add_rows()
        else:
            self.fields["schema"] = ObjectField(
                required=False,
                label="Inputs of a run (JSON Schema)",
                initial=self.schema,
                widget=forms.Textarea(attrs={**AREA, "rows": 10}),
            )
        self._add_settings(definition.get("settings") or {})

    def _add_settings(self, settings: Mapping[str, Json]) -> None:
        self.fields["indexed_inputs"] = PathsField(
            required=False,
            label="Inputs by which runs are searched",
            initial=settings.get("indexed_inputs") or [],
            widget=forms.Textarea(attrs={**AREA, "rows": 3, "placeholder": "customer.id"}),
            help_text=(
                f"Up to {MAX_INDEXED_INPUTS} paths, one a line. For customer.id, the search of the"
                " Run Manager finds runs by input:customer.id=42."
            ),
        )
        self.fields["failure_policy"] = forms.ChoiceField(
            choices=[("continue", "continue with the other branches"), ("stop", "stop the run")],
            label="When a node fails",
            initial=settings.get("failure_policy", "continue"),
        )
        self.fields["max_failures"] = forms.RegexField(
            MAX_FAILURES,
            required=False,
            label="Failures allowed",
            initial=settings.get("max_failures"),
            help_text="A number, or a percentage such as 10%.",
        )
        self.fields |= limit_fields.fields(settings)
        self.fields["store"] = JsonField(
            required=False,
            label="Store: keys and their initial values (JSON)",
            initial=(settings.get("store") or {}).get("default_values") or None,
            widget=forms.Textarea(attrs={**AREA, "rows": 3}),
        )

    def _properties(self) -> JsonObject:
        return self.schema.get("properties") or {}

    def _add_rows(self) -> None:
        """A row of fields for each input and an empty one; or as many rows as were sent."""
        required = self.schema.get("required") or ()
        rows = [(name, schema, name in required) for name, schema in self._properties().items()]
        sent = sum(1 for key in self.data if key.startswith("name-"))
        self.count = max(len(rows) + 1, sent)
        rows += [("", NEW_INPUT, False)] * (self.count - len(rows))
        for number, (name, schema, is_required) in enumerate(rows):
            self._add_row(number, name, schema, is_required)

    def _add_row(self, number: int, name: str, schema: JsonObject, is_required: bool) -> None:
        self.fields[f"name-{number}"] = forms.RegexField(
            NAME, required=False, max_length=100, label="Name", initial=name
        )
        self.fields[f"type-{number}"] = forms.ChoiceField(
            choices=TYPES, required=False, label="Type", initial=schema.get("type", "")
        )
        self.fields[f"title-{number}"] = forms.CharField(
            required=False, max_length=200, label="Title", initial=schema.get("title", "")
        )
        self.fields[f"default-{number}"] = DefaultField(
            required=False, label="Default", initial=schema.get("default")
        )
        self.fields[f"needed-{number}"] = forms.BooleanField(
            required=False, label="Required", initial=is_required
        )

    @property
    def rows(self) -> list[list[BoundField]]:
        """The fields of each input."""
        return [[self[f"{part}-{number}"] for part in PARTS] for number in range(self.count)]

    @property
    def other_fields(self) -> list[BoundField]:
        return [self[name] for name in OTHER_FIELDS if name in self.fields]

    def clean(self) -> JsonObject:
        """Refuse two inputs with one name. The error is at the one whose name was changed."""
        cleaned = super().clean() or self.cleaned_data
        names = [f"name-{number}" for number in range(self.count)]
        taken: set[str] = set()
        for field in sorted(names, key=self.touched):
            name = cleaned.get(field)
            if not name:
                continue
            if name in taken:
                self.add_error(field, "There is already an input with this name.")
            taken.add(name)
        limit_fields.check(self)
        return cleaned

    def clean_store(self) -> Json:
        if not isinstance(self.cleaned_data["store"] or {}, dict):
            raise forms.ValidationError('Enter a JSON object, such as {"region": "eu"}.')
        return self.cleaned_data["store"]

    def definition(self) -> Definition:
        """The definition with what was changed. Everything else is as it was."""
        definition: Json = dict(self.former)
        settings = self._settings()
        if not merge.same(settings, self.former.get("settings") or {}):
            set_or_remove(definition, "settings", settings)
        if self.touched("schema"):
            set_or_remove(definition, "inputs", self.cleaned_data["schema"])
        elif self._rows_touched():
            set_or_remove(definition, "inputs", self._schema())
            return renames.rename_inputs(definition, self._renamed())
        return definition

    def _rows_touched(self) -> bool:
        return self.touched(*(f"{part}-{at}" for at in range(self.count) for part in PARTS))

    def _settings(self) -> JsonObject:
        fields = self.cleaned_data
        settings: JsonObject = {**(self.former.get("settings") or {})}
        if self.touched("indexed_inputs"):
            set_or_remove(settings, "indexed_inputs", fields["indexed_inputs"] or None)
        if self.touched("failure_policy"):
            settings["failure_policy"] = fields["failure_policy"]
        if self.touched("max_failures"):
            text = fields["max_failures"]
            set_or_remove(settings, "max_failures", int(text) if text.isdigit() else text)
        limit_fields.apply(self, settings)
        if self.touched("store"):
            store = dict(settings.get("store") or {})
            set_or_remove(store, "default_values", fields["store"])
            set_or_remove(settings, "store", store)
        return settings

    def _renamed(self) -> dict[str, str]:
        """Old and new names of inputs: those that have another name in the same row.

        An input whose old name is now in another row was moved, not renamed.
        """
        names = [self.cleaned_data.get(f"name-{number}", "") for number in range(self.count)]
        former = self._properties()
        pairs = zip(former, names, strict=False)
        return {old: new for old, new in pairs if new and old not in names and new not in former}

    def _schema(self) -> JsonObject:
        """The schema that the rows make; {} for no inputs."""
        properties: JsonObject = {}
        required: list[str] = []
        for number in range(self.count):
            name = self.cleaned_data.get(f"name-{number}", "")
            if name:
                properties[name] = self._property(number)
                if self.cleaned_data[f"needed-{number}"]:
                    required.append(name)
        if not properties:
            return {}
        replaced = ("properties", "required")
        schema = {key: value for key, value in self.schema.items() if key not in replaced}
        schema |= {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        return schema

    def _property(self, number: int) -> JsonObject:
        former = list(self._properties().values())
        schema = {"type": self.cleaned_data[f"type-{number}"]}
        if number < len(former):
            schema = dict(former[number])
        for part in ("type", "title", "default"):
            if self.touched(f"{part}-{number}"):
                set_or_remove(schema, part, self.cleaned_data[f"{part}-{number}"])
        if not schema.get("type"):
            schema.pop("type", None)
        return schema


def _is_simple(schema: Json) -> bool:
    """Whether rows can show the schema: names with types, titles and defaults, and no more."""
    if not isinstance(schema, dict) or not set(schema) <= {
        "type",
        "properties",
        "required",
        "title",
    }:
        return False
    properties = schema.get("properties") or {}
    if not isinstance(properties, dict) or schema.get("type", "object") != "object":
        return False
    if not set(schema.get("required") or ()) <= set(properties):
        return False
    return all(
        NAME.match(name) and _is_simple_property(property_schema)
        for name, property_schema in properties.items()
    )


def _is_simple_property(schema: Json) -> bool:
    if not isinstance(schema, dict) or not set(schema) <= {"type", "title", "default"}:
        return False
    kind = schema.get("type", "")
    return isinstance(kind, str) and kind in {value for value, _ in TYPES}
