"""The form of what belongs to a graph as a whole: the inputs of its runs, and how it takes failures."""

import re
from typing import Any

from django import forms

from graphs.definition import merge, renames
from graphs.definition.types import Definition, Json, JsonObject
from graphs.editor.inspector import AnyField
from graphs.editor.merged_form import KeepingForm, put
from graphs.web.schema_forms import AREA, JsonField, ObjectField

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
NAME = re.compile(r"^[^\s.${}]{1,100}$")
BLANK = 1  # empty rows for new inputs; the next comes when it is filled


class SettingsForm(KeepingForm):
    """`definition()` is the definition with what the form says; inputs that are more than a list of names and types stay JSON."""

    def __init__(self, definition: Definition, data: Any = None) -> None:
        super().__init__(data)
        self.was = definition
        self.schema: JsonObject = definition.get("inputs") or {}
        settings = definition.get("settings") or {}
        store = settings.get("store") or {}
        self.simple, self.count = _is_simple(self.schema), 0
        if self.simple:
            self._add_rows()
        else:
            self.fields["schema"] = ObjectField(
                required=False,
                label="Inputs of a run (JSON Schema)",
                initial=self.schema,
                widget=forms.Textarea(attrs={**AREA, "rows": 10}),
            )
        self.fields |= {
            "failure_policy": forms.ChoiceField(
                choices=[("continue", "go on with the other branches"), ("stop", "stop the run")], label="When a node fails",
                initial=settings.get("failure_policy", "continue"),
            ),
            "max_failures": forms.RegexField(
                r"^(\d{1,9}|(100|\d{1,2})(\.\d+)?%)$", required=False, label="Failures allowed", initial=settings.get("max_failures"),
                help_text="A number or a percentage, such as 10%.",
            ),
            "store": JsonField(
                required=False, label="Store: keys and their first values (JSON)", initial=store.get("default_values") or None,
                widget=forms.Textarea(attrs={**AREA, "rows": 3}),
            ),
        }  # fmt: skip

    def _properties(self) -> dict[str, Any]:
        return self.schema.get("properties") or {}

    def _add_rows(self) -> None:
        needed = self.schema.get("required") or ()
        rows = [(name, each, name in needed) for name, each in self._properties().items()] + [
            ("", {"type": "string"}, False)
        ] * BLANK
        if self.is_bound:
            rows += [("", {"type": "string"}, False)] * (
                sum(1 for key in self.data if key.startswith("name-")) - len(rows)
            )
        self.count = len(rows)
        for at, (name, each, required) in enumerate(rows):
            self.fields[f"name-{at}"] = forms.RegexField(
                NAME, required=False, max_length=100, label="Name", initial=name
            )
            self.fields[f"type-{at}"] = forms.ChoiceField(
                choices=TYPES, required=False, label="Type", initial=each.get("type", "")
            )
            self.fields[f"title-{at}"] = forms.CharField(
                required=False, max_length=200, label="Title", initial=each.get("title", "")
            )
            self.fields[f"default-{at}"] = _Default(
                required=False, label="Default", initial=each.get("default")
            )
            self.fields[f"needed-{at}"] = forms.BooleanField(
                required=False, label="Required", initial=required
            )

    @property
    def rows(self) -> list[list[Any]]:
        """The fields of each input."""
        return (
            [[self[f"{part}-{at}"] for part in PARTS] for at in range(self.count)]
            if self.simple
            else []
        )

    @property
    def rest(self) -> list[Any]:
        return [
            self[name]
            for name in ("schema", "failure_policy", "max_failures", "store")
            if name in self.fields
        ]

    def clean(self) -> dict[str, Any]:
        """Of two inputs of one name the one that was given it now is wrong."""
        cleaned = super().clean() or self.cleaned_data
        taken: set[Any] = set()
        for field in sorted((f"name-{at}" for at in range(self.count)), key=self.touched):
            name = cleaned.get(field)
            if name and name in taken:
                self.add_error(field, "There is an input of this name already.")
            taken.add(name)
        return cleaned

    def clean_store(self) -> Any:
        if not isinstance(self.cleaned_data["store"] or {}, dict):
            raise forms.ValidationError('This is a JSON object, such as {"region": "eu"}.')
        return self.cleaned_data["store"]

    def definition(self) -> Definition:
        """The definition with what was changed; all else is as it was."""
        found = self.cleaned_data
        made: Json = dict(self.was)
        settings: JsonObject = dict(self.was.get("settings") or {})
        if self.touched("failure_policy"):
            settings["failure_policy"] = found["failure_policy"]
        if self.touched("max_failures"):
            text = found["max_failures"]
            put(settings, "max_failures", int(text) if text.isdigit() else text)
        if self.touched("store"):
            store: JsonObject = dict(settings.get("store") or {})
            put(store, "default_values", found["store"])
            put(settings, "store", store)
        if not merge.same(settings, self.was.get("settings") or {}):
            put(made, "settings", settings)
        if self.simple and self.touched(
            *(f"{part}-{at}" for at in range(self.count) for part in PARTS)
        ):
            put(made, "inputs", self._schema())
            made = renames.rename_inputs(made, self._renamed())
        elif self.touched("schema"):
            put(made, "inputs", found["schema"])
        return made

    def _renamed(self) -> dict[str, str]:
        """Inputs that have another name in the same row; one that also stands in another row was not renamed."""
        found = [self.cleaned_data.get(f"name-{at}", "") for at in range(self.count)]
        was = self._properties()
        return {
            old: new
            for old, new in zip(was, found, strict=False)
            if new and old not in found and new not in was
        }

    def _schema(self) -> dict[str, Any]:
        found, properties, required = self.cleaned_data, {}, []
        was = list(self._properties().items())
        for at in range(self.count):
            name = found.get(f"name-{at}", "")
            if not name:
                continue
            each = dict(was[at][1]) if at < len(was) else {"type": found[f"type-{at}"]}
            for part in ("type", "title", "default"):
                if self.touched(f"{part}-{at}"):
                    put(each, part, found[f"{part}-{at}"])
            properties[name] = {key: value for key, value in each.items() if key != "type" or value}
            required += [name] if found[f"needed-{at}"] else []
        schema = {
            **{
                key: value
                for key, value in self.schema.items()
                if key not in ("properties", "required")
            },
            "type": "object",
            "properties": properties,
        }
        return {**schema, **({"required": required} if required else {})} if properties else {}


def _is_simple(schema: Any) -> bool:
    """Whether a schema is nothing but names with types, titles and defaults, so that rows can show all of it."""
    properties = schema.get("properties") or {} if isinstance(schema, dict) else None
    if (
        not isinstance(properties, dict)
        or not set(schema) <= {"type", "properties", "required", "title"}
        or schema.get("type", "object") != "object"
    ):
        return False
    known = {value for value, _ in TYPES}
    plain = all(
        isinstance(each, dict)
        and set(each) <= {"type", "title", "default"}
        and isinstance(each.get("type", ""), str)
        and each.get("type", "") in known
        for each in properties.values()
    )
    return (
        plain
        and all(NAME.match(name) for name in properties)
        and set(schema.get("required") or ()) <= set(properties)
    )


class _Default(AnyField):
    """A default in JSON; what is none is text."""

    widget: Any = forms.TextInput
