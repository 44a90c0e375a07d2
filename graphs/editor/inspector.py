"""The form of one node: a field for each input of its schema, each of which may take a reference instead, and what else a node may have."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms

from graphs.definition import edits, input_suggestions, merge, plan, references, retry_delay
from graphs.definition.types import Definition, Json, JsonObject, NodeDefinition
from graphs.definition.validation import Kind
from graphs.editor.merged_form import KeepingForm, put
from graphs.editor.row_fields import Rows
from graphs.web.schema_forms import AREA, JsonField, field_for

NONE = ("", "–")
LITTLE = {"rows": 2, "cols": 40, "spellcheck": "false"}


class AnyField(JsonField):
    """JSON where it is some, text where it isn't."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except forms.ValidationError:
            return value

    def prepare_value(self, value: Any) -> Any:
        """Text as it is, but for text that would come back as something else."""
        return (
            value
            if isinstance(value, str) and _is_no_json(value)
            else json.dumps(value, ensure_ascii=False, indent=2)
            if value is not None
            else ""
        )


class NodeForm(KeepingForm):
    """`node()` is the node that the form makes. Inputs that its schema doesn't know are kept, as JSON."""

    id = forms.CharField(
        max_length=200,
        label="Id",
        help_text="Other nodes refer to it by this; renaming it here renames it there.",
    )
    label = forms.CharField(
        max_length=500, required=False, help_text="Shown in pictures instead of the id."
    )

    def __init__(
        self,
        definition: Definition,
        name: str,
        kinds: input_suggestions.Kinds,
        data: Any = None,
    ) -> None:
        self.was = edits.node_of(definition, name)
        self.data_was: JsonObject = {**(self.was.get("data") or {})}
        self.kind: Kind | None = kinds.get(name)
        self.inputs = self.data_was.get("inputs") or {}
        self.schema = (self.kind.inputs_schema if self.kind else None) or {}
        super().__init__(data, initial={"id": name, "label": self.was.get("label", "")})
        self.rows: dict[str, Rows] = {}
        self.offers = input_suggestions.offers(definition, name, kinds)
        self.known = list(self.schema.get("properties") or {})
        for each in self.known:
            self._add_input(each, input_suggestions.member(self.schema, each))
        self._add_extra()
        self._add_rest(definition, name)

    def _add_input(self, name: str, schema: Mapping[str, Any]) -> None:
        given, referred = self.inputs.get(name), _whole_reference(self.inputs.get(name))
        needed = name in (self.schema.get("required") or ())
        label = schema.get("title") or name.replace("_", " ").capitalize()
        if rows := Rows.of(
            f"in-{name}", f"{label}{' *' if needed else ''}", schema, None if referred else given
        ):
            self.rows[name] = rows
            self.fields |= rows.fields(self.data if self.is_bound else None)
        elif (
            schema.get("type") != "object"
            or schema.get("additionalProperties")
            or (given is not None and not referred)
        ):
            field = _literal(name, schema, None if referred else given)
            field.label = f"{field.label}{' *' if needed else ''}"
            self.fields[f"in-{name}"] = field
        if not self.offers and not referred and (rows or f"in-{name}" in self.fields):
            return
        adds = schema.get("type") == "array" and isinstance(given, list)
        choices = self._choices(
            schema.get("items", {}) if schema.get("type") == "array" else schema,
            "" if adds else referred,
        )
        label = f"{label}{' *' if needed else ''} {'– add' if adds else 'from'}"
        self.fields[f"ref-{name}"] = forms.ChoiceField(
            choices=choices, required=False, label=label, initial="" if adds else referred
        )

    def _choices(self, wanted: Mapping[str, Any], chosen: str) -> list[Any]:
        fitting = [offer for offer in self.offers if input_suggestions.fits(offer.schema, wanted)]
        groups = (
            ("Fits", fitting),
            ("Other", [offer for offer in self.offers if offer not in fitting]),
        )
        known = {offer.text for offer in self.offers}
        lost = [(chosen, chosen.strip("${} "))] if chosen and chosen not in known else []
        return [
            NONE,
            *lost,
            *(
                (title, [(offer.text, offer.reference) for offer in some])
                for title, some in groups
                if some
            ),
        ]

    def _add_extra(self) -> None:
        extra = {key: value for key, value in self.inputs.items() if key not in self.known}
        if extra or not self.known:
            label = (
                "Inputs (JSON)" if not self.known else "Inputs that its schema doesn't know (JSON)"
            )
            self.fields["extra"] = JsonField(
                required=False,
                label=label,
                initial=extra or None,
                widget=forms.Textarea(attrs=AREA),
            )

    def _add_rest(self, definition: Definition, name: str) -> None:
        unites, retry, place = (
            self.data_was.get("unites") or {},
            self.data_was.get("retry") or {},
            self.was.get("position") or {},
        )
        before = plan.nodes_before(definition, name)
        ids = dict.fromkeys([*before, *([unites["identifier"]] if unites else [])])
        self.fields |= {
            "unites": forms.ChoiceField(
                choices=[NONE, *((each, each) for each in ids)], required=False, label="Unites all branches of", initial=unites.get("identifier", "")
            ),
            "strategy": forms.ChoiceField(
                choices=[("ALL_SUCCESS", "when all succeeded"), ("ALL_DONE", "when all are done")], required=False, label="It runs",
                initial=unites.get("strategy", "ALL_SUCCESS")
            ),
            "max_retries": forms.IntegerField(min_value=0, max_value=1000, required=False, label="Retries", initial=retry.get("max_retries")),
            "retry_strategy": forms.ChoiceField(
                choices=[NONE, *((each, each.replace("_", " ").lower()) for each in sorted(retry_delay.STRATEGIES))], required=False, label="Retries wait",
                initial=retry.get("strategy", ""),
            ),
            "backoff_factor": forms.FloatField(min_value=0.001, required=False, label="First wait (ms)", initial=retry.get("backoff_factor")),
            "timeout": forms.FloatField(min_value=0.001, max_value=86400, required=False, label="Timeout (s)", initial=self.data_was.get("timeout")),
            "side_effects": forms.BooleanField(
                required=False, label="Has side effects", initial=bool(self.data_was.get("side_effects")), help_text="It is recorded alone and at once."
            ),
            "x": forms.FloatField(required=False, initial=place.get("x"), help_text="Empty: the layout says."),
            "y": forms.FloatField(required=False, initial=place.get("y")),
        }  # fmt: skip

    @property
    def input_fields(self) -> Sequence[dict[str, Any]]:
        """For each input its `rows`, or the field of its `value`, and that of its reference (`from`); one of the two may be missing."""
        found: list[dict[str, Any]] = []
        for name in self.known:
            rows, value, ref = self.rows.get(name), f"in-{name}", f"ref-{name}"
            shown = {
                "rows": rows and rows.bound(self),
                "label": rows and rows.label,
                "list": rows and rows.plain and not rows.keyed,
                "value": self[value] if value in self.fields else None,
            }
            found.append({**shown, "from": self[ref] if ref in self.fields else None})
        return [*found, *([{"value": self["extra"]}] if "extra" in self.fields else [])]

    @property
    def running_fields(self) -> Sequence[Any]:
        return [
            self[name]
            for name in (
                "unites",
                "strategy",
                "max_retries",
                "retry_strategy",
                "backoff_factor",
                "timeout",
                "side_effects",
            )
        ]

    @property
    def running_wrong(self) -> bool:
        return any(field.errors for field in self.running_fields)

    @property
    def moved(self) -> bool:
        """Whether a reference that was sent isn't what would be shown now: it was added to a list, or something was written instead of it."""
        return self.touched(*(name for name in self.fields if name.startswith("ref-")))

    def clean(self) -> None:
        for rows in self.rows.values():
            for at, wrong in rows.wrong(self.cleaned_data):
                if name := next((name for name in rows.names_of(at) if self.touched(name)), ""):
                    self.add_error(name, wrong)

    def clean_id(self) -> str:
        """An id that was there before stays, even one that nothing can refer to."""
        name: str = self.cleaned_data["id"]
        if self.touched("id") and not references.can_name(name):
            raise forms.ValidationError(
                "Other nodes couldn't refer to it: an id has no dot and no { or } in it."
            )
        return name

    def clean_extra(self) -> Any:
        if not isinstance(self.cleaned_data["extra"] or {}, dict):
            raise forms.ValidationError('This is a JSON object, such as {"name": "Ann"}.')
        return self.cleaned_data["extra"]

    def node(self) -> NodeDefinition:
        """The node with what was changed; all else is as it was. What was emptied is left out."""
        found = self.cleaned_data
        node: Json = {key: value for key, value in self.was.items() if key != "text"}
        for name in ("id", "label"):
            if self.touched(name):
                put(node, name, found[name])
        if self.touched("x", "y"):
            x, y = (
                found.get(name)
                if self.touched(name)
                else (self.was.get("position") or {}).get(name)
                for name in ("x", "y")
            )
            put(
                node,
                "position",
                {**(self.was.get("position") or {}), "x": x, "y": y}
                if x is not None and y is not None
                else None,
            )
        data = self._data()
        if not merge.same(data, self.data_was):
            put(node, "data", data)
        return node

    def _data(self) -> dict[str, Any]:
        found, data = self.cleaned_data, dict(self.data_was)
        inputs = self._inputs()
        if not merge.same(inputs, self.inputs):
            put(data, "inputs", inputs)
        if self.touched("unites", "strategy"):
            united = found.get("unites")
            put(
                data,
                "unites",
                {"identifier": united, "strategy": found.get("strategy") or "ALL_SUCCESS"}
                if united
                else None,
            )
        retry = dict(self.data_was.get("retry") or {})
        for field, name in (
            ("max_retries", "max_retries"),
            ("retry_strategy", "strategy"),
            ("backoff_factor", "backoff_factor"),
        ):
            if self.touched(field):
                put(retry, name, found[field])
        if not merge.same(retry, self.data_was.get("retry") or {}):
            put(data, "retry", retry)
        for name in ("timeout", "side_effects"):
            if self.touched(name):
                put(data, name, found[name] or None)
        return data

    def _inputs(self) -> dict[str, Any]:
        inputs = dict(self.inputs)
        for name in self.known:
            if self._written(name) or self.touched(f"ref-{name}"):
                put(inputs, name, self._input(name))
        if self.touched("extra"):
            inputs = {name: value for name, value in inputs.items() if name in self.known} | (
                self.cleaned_data["extra"] or {}
            )
        return inputs

    def _written(self, name: str) -> bool:
        """Whether the value of an input was written, cell by cell or whole."""
        return self.touched(*(self.rows[name].names if name in self.rows else [f"in-{name}"]))

    def _value(self, name: str) -> Any:
        return (
            self.rows[name].value(self.cleaned_data)
            if name in self.rows
            else self.cleaned_data.get(f"in-{name}")
        )

    def _input(self, name: str) -> Any:
        """The value written, or the reference chosen; a reference chosen beside a list is added to it, unless it is a list itself."""
        chosen = self.cleaned_data.get(f"ref-{name}")
        value = self._value(name) if self._written(name) else self.inputs.get(name)
        if not chosen or not self.touched(f"ref-{name}"):
            return value if self._written(name) else None
        is_list = input_suggestions.member(self.schema, name).get("type") == "array"
        if is_list and (isinstance(value, list) or not self._feeds_list(chosen)):
            kept = value if isinstance(value, list) else []
            return kept if chosen in kept else [*kept, chosen]
        return chosen

    def _feeds_list(self, chosen: str) -> bool:
        """Whether the reference is a whole list itself."""
        offer = next((offer for offer in self.offers if offer.text == chosen), None)
        return offer is None or offer.schema.get("type") in ("array", None)


def _is_no_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return bool(text.strip())
    return False


def _whole_reference(value: Any) -> str:
    """The value if it is exactly one placeholder, as offers spell it; else ""."""
    if not isinstance(value, str):
        return ""
    try:
        pieces = references.parse(value)
    except references.BadReference:
        return ""
    return (
        f"${{{{ {pieces[0]} }}}}"
        if len(pieces) == 1 and isinstance(pieces[0], references.Reference)
        else ""
    )


def _literal(name: str, schema: Mapping[str, Any], given: Any) -> forms.Field:
    """A field for a value written here; a value that the schema doesn't expect gets one that takes anything."""
    plain = {
        key: value for key, value in schema.items() if key not in ("default", "description", "enum")
    }
    usual = (
        f"Usually {json.dumps(schema['default'], ensure_ascii=False)}."
        if schema.get("default") is not None
        else ""
    )
    kind = schema.get("type")
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        others = [] if given is None or given in schema["enum"] else [given]
        field = field_for(name, {**plain, "enum": [*schema["enum"], *others]}, False, given)
    elif kind in _TYPES and (given is None or type(given) in _TYPES[kind]):
        field = field_for(name, plain, False, given)
    elif kind == "string" and (given is None or isinstance(given, str)):
        field = forms.CharField(
            required=False,
            strip=False,
            initial=given,
            widget=forms.Textarea(attrs=LITTLE) if _long(given, name) else forms.TextInput,
        )
    elif kind in ("array", "object") and not isinstance(given, str):
        field = JsonField(
            required=False, initial=given, widget=forms.Textarea(attrs={**LITTLE, "rows": 4})
        )
    else:
        field = AnyField(required=False, initial=given, widget=forms.Textarea(attrs=LITTLE))
    suffix = " (JSON)" if type(field) is JsonField else ""
    field.label = f"{schema.get('title') or name.replace('_', ' ').capitalize()}{suffix}"
    field.help_text = usual or schema.get("description", "")
    return field


_TYPES: dict[Any, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def _long(given: Any, name: str) -> bool:
    return name in ("message", "body", "where", "question", "until") or (
        isinstance(given, str) and (len(given) > 40 or "\n" in given)
    )
