"""The form of one node, which FlowView shows beside the drawing.

It has a field for each input of the node's schema, a menu of references that may be used instead,
and fields for how the node runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django import forms
from django.forms.boundfield import BoundField

from graphs.definition import input_suggestions, merge, references
from graphs.definition.types import Json, JsonObject, NodeDefinition
from graphs.editor.node_fields import NodeFields
from graphs.web.touched_form import set_or_remove

RUNNING_FIELDS = (
    "unites",
    "strategy",
    "max_retries",
    "retry_strategy",
    "backoff_factor",
    "timeout",
    "side_effects",
)
RETRY_FIELDS = {
    "max_retries": "max_retries",
    "retry_strategy": "strategy",
    "backoff_factor": "backoff_factor",
}


@dataclass(frozen=True)
class InputFields:
    """The fields of one input: its rows or its value, and its reference. Any may be missing.

    `is_list` says whether the rows are the texts of a list.
    """

    rows: Sequence[Sequence[BoundField]] = ()
    label: str = ""
    is_list: bool = False
    value: BoundField | None = None
    reference: BoundField | None = None

    @property
    def has_literal(self) -> bool:
        """Whether a value may be written."""
        return bool(self.rows) or self.value is not None


class NodeForm(NodeFields):
    """The form of the node `name`. `node()` is the node with what the user changed."""

    # --- what the page shows

    @property
    def input_fields(self) -> list[InputFields]:
        """The fields of each input."""
        fields = [self._input_fields(name) for name in self.known]
        if "extra" in self.fields:
            fields.append(InputFields(value=self["extra"]))
        return fields

    def _input_fields(self, name: str) -> InputFields:
        value, reference = self._bound(f"in-{name}"), self._bound(f"ref-{name}")
        rows = self.rows.get(name)
        if rows is None:
            return InputFields(value=value, reference=reference)
        is_list = rows.plain and not rows.keyed
        return InputFields(rows.bound(self), rows.label, is_list, value, reference)

    def _bound(self, name: str) -> BoundField | None:
        return self[name] if name in self.fields else None

    @property
    def running_fields(self) -> list[BoundField]:
        return [self[name] for name in RUNNING_FIELDS]

    @property
    def has_running_errors(self) -> bool:
        return any(field.errors for field in self.running_fields)

    @property
    def reference_moved(self) -> bool:
        """Whether the menu of references must be shown again.

        It must if the reference was added to a list, or if a value was written in its place.
        """
        return self.touched(*(name for name in self.fields if name.startswith("ref-")))

    # --- validation

    def clean(self) -> None:
        for rows in self.rows.values():
            for row, message in rows.problems(self.cleaned_data):
                touched = [name for name in rows.names_of(row) if self.touched(name)]
                if touched:
                    self.add_error(touched[0], message)

    def clean_id(self) -> str:
        """Refuse a new id that no reference can name. An old one is accepted as it is."""
        name: str = self.cleaned_data["id"]
        if self.touched("id") and not references.can_name(name):
            raise forms.ValidationError(
                "Other nodes could not refer to it: an id may not have a dot, { or } in it."
            )
        return name

    def clean_extra(self) -> Json:
        if not isinstance(self.cleaned_data["extra"] or {}, dict):
            raise forms.ValidationError('Enter a JSON object, such as {"name": "Ann"}.')
        return self.cleaned_data["extra"]

    # --- the node that the form makes

    def node(self) -> NodeDefinition:
        """The node with what was changed. What was emptied is removed."""
        node: Json = {key: value for key, value in self.former.items() if key != "text"}
        for name in ("id", "label"):
            if self.touched(name):
                set_or_remove(node, name, self.cleaned_data[name])
        if self.touched("x", "y"):
            set_or_remove(node, "position", self._position())
        data = self._data()
        if not merge.same(data, self.former_data):
            set_or_remove(node, "data", data)
        return node

    def _position(self) -> JsonObject | None:
        """The position; None, which leaves it to the layout, unless both x and y are given."""
        position = dict(self.former.get("position") or {})
        for name in ("x", "y"):
            if self.touched(name):
                position[name] = self.cleaned_data.get(name)
        if position.get("x") is None or position.get("y") is None:
            return None
        return position

    def _data(self) -> JsonObject:
        data = dict(self.former_data)
        inputs = self._inputs()
        if not merge.same(inputs, self.inputs):
            set_or_remove(data, "inputs", inputs)
        if self.touched("unites", "strategy"):
            set_or_remove(data, "unites", self._unites())
        former_retry = self.former_data.get("retry") or {}
        retry = dict(former_retry)
        for field, member in RETRY_FIELDS.items():
            if self.touched(field):
                set_or_remove(retry, member, self.cleaned_data[field])
        if not merge.same(retry, former_retry):
            set_or_remove(data, "retry", retry)
        for name in ("timeout", "side_effects"):
            if self.touched(name):
                set_or_remove(data, name, self.cleaned_data[name] or None)
        return data

    def _unites(self) -> JsonObject | None:
        identifier = self.cleaned_data.get("unites")
        if not identifier:
            return None
        strategy = self.cleaned_data.get("strategy") or "ALL_SUCCESS"
        return {"identifier": identifier, "strategy": strategy}

    def _inputs(self) -> JsonObject:
        inputs = dict(self.inputs)
        for name in self.known:
            if self._is_written(name) or self.touched(f"ref-{name}"):
                set_or_remove(inputs, name, self._input(name))
        if self.touched("extra"):
            known = {name: value for name, value in inputs.items() if name in self.known}
            inputs = known | (self.cleaned_data["extra"] or {})
        return inputs

    def _is_written(self, name: str) -> bool:
        """Whether a value was written for the input, as a whole or in its rows."""
        names = self.rows[name].names if name in self.rows else [f"in-{name}"]
        return self.touched(*names)

    def _written(self, name: str) -> Json:
        if name in self.rows:
            return self.rows[name].value(self.cleaned_data)
        return self.cleaned_data.get(f"in-{name}")

    def _input(self, name: str) -> Json:
        """The value that was written, or the reference that was chosen.

        A reference beside a list is added to it, unless it is a reference to a whole list.
        """
        is_written = self._is_written(name)
        chosen = self.cleaned_data.get(f"ref-{name}")
        if not chosen or not self.touched(f"ref-{name}"):
            return self._written(name) if is_written else None
        value = self._written(name) if is_written else self.inputs.get(name)
        is_list = input_suggestions.member(self.schema, name).get("type") == "array"
        if is_list and (isinstance(value, list) or not self._is_list_reference(chosen)):
            items = value if isinstance(value, list) else []
            return items if chosen in items else [*items, chosen]
        return chosen

    def _is_list_reference(self, text: str) -> bool:
        """Whether the value of the reference is a list, or may be one."""
        for offer in self.offers:
            if offer.text == text:
                return offer.schema.get("type") in ("array", None)
        return True
