"""The form of what belongs to a graph as a whole: the inputs of its runs, and how it takes failures."""

from collections.abc import Mapping
from typing import Any

from django import forms

from runs.manager.schema_forms import AREA, JsonField, ObjectField

TYPES = [
    ("string", "text"),
    ("integer", "whole number"),
    ("number", "number"),
    ("boolean", "yes or no"),
    ("array", "list"),
    ("object", "object"),
    ("", "anything"),
]
BLANK = 2  # empty rows for new inputs


class SettingsForm(forms.Form):
    """`definition()` is the definition with what the form says; inputs that are more than a list of names and types stay JSON."""

    def __init__(self, definition: Mapping[str, Any], data: Any = None) -> None:
        super().__init__(data)
        self.was = definition
        self.schema = definition.get("inputs") or {}
        settings = definition.get("settings") or {}
        store = settings.get("store") or {}
        self.simple = all(set(each) <= {"type", "title", "default"} for each in self._properties().values()) and set(self.schema) <= {
            "type",
            "properties",
            "required",
            "title",
        }
        if self.simple:
            self._add_rows()
        else:
            self.fields["schema"] = ObjectField(
                required=False, label="Inputs of a run (JSON Schema)", initial=self.schema, widget=forms.Textarea(attrs={**AREA, "rows": 10})
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
        found = self.schema.get("properties") or {}
        return {name: each if isinstance(each, dict) else {"": each} for name, each in found.items()}

    def _add_rows(self) -> None:
        needed = self.schema.get("required") or ()
        rows = [(name, each, name in needed) for name, each in self._properties().items()] + [("", {"type": "string"}, False)] * BLANK
        if self.is_bound:
            rows += [("", {"type": "string"}, False)] * (sum(1 for key in self.data if key.startswith("name-")) - len(rows))
        self.count = len(rows)
        for at, (name, each, required) in enumerate(rows):
            self.fields[f"name-{at}"] = forms.RegexField(r"^[^\s.${}]+$", required=False, max_length=100, label="Name", initial=name)
            self.fields[f"type-{at}"] = forms.ChoiceField(choices=TYPES, required=False, label="Type", initial=each.get("type", ""))
            self.fields[f"title-{at}"] = forms.CharField(required=False, max_length=200, label="Title", initial=each.get("title", ""))
            self.fields[f"default-{at}"] = _Default(required=False, label="Default", initial=each.get("default"))
            self.fields[f"needed-{at}"] = forms.BooleanField(required=False, label="Required", initial=required)

    @property
    def rows(self) -> list[list[Any]]:
        """The fields of each input."""
        return [[self[f"{part}-{at}"] for part in ("name", "type", "title", "default", "needed")] for at in range(self.count)] if self.simple else []

    @property
    def rest(self) -> list[Any]:
        return [self[name] for name in ("schema", "failure_policy", "max_failures", "store") if name in self.fields]

    def clean_store(self) -> Any:
        if not isinstance(self.cleaned_data["store"] or {}, dict):
            raise forms.ValidationError('This is a JSON object, such as {"region": "eu"}.')
        return self.cleaned_data["store"]

    def definition(self) -> dict[str, Any]:
        found = self.cleaned_data
        settings = {key: value for key, value in (self.was.get("settings") or {}).items() if key not in ("failure_policy", "max_failures", "store")}
        if found["failure_policy"] != "continue" or "failure_policy" in (self.was.get("settings") or {}):
            settings["failure_policy"] = found["failure_policy"]
        if found["max_failures"]:
            settings["max_failures"] = int(found["max_failures"]) if found["max_failures"].isdigit() else found["max_failures"]
        store = {key: value for key, value in ((self.was.get("settings") or {}).get("store") or {}).items() if key != "default_values"}
        store |= {"default_values": found["store"]} if found["store"] else {}
        settings |= {"store": store} if store else {}
        schema = self._schema() if self.simple else found["schema"]
        plain = {key: value for key, value in self.was.items() if key not in ("inputs", "settings")}
        return {**plain, **({"inputs": schema} if schema else {}), **({"settings": settings} if settings else {})}

    def _schema(self) -> dict[str, Any]:
        found, properties, required = self.cleaned_data, {}, []
        for at in range(self.count):
            name = found.get(f"name-{at}")
            if not name:
                continue
            said = {"type": found[f"type-{at}"], "title": found[f"title-{at}"], "default": found[f"default-{at}"]}
            properties[name] = {key: value for key, value in said.items() if value not in (None, "")}
            required += [name] if found[f"needed-{at}"] else []
        return {"type": "object", "properties": properties, **({"required": required} if required else {})} if properties else {}


class _Default(JsonField):
    """A default in JSON; what is none is text."""

    widget: Any = forms.TextInput

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except forms.ValidationError:
            return value

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) else super().prepare_value(value)
