"""The fields of the form of one node (`inspector.NodeForm`)."""

from collections.abc import Mapping, Sequence

from django import forms

from graphs.definition import edits, input_suggestions, plan, retry_delay
from graphs.definition.input_suggestions import Offer
from graphs.definition.types import Definition, Json, JsonObject, NodeData
from graphs.definition.validation import Kind
from graphs.editor.row_fields import Rows
from graphs.editor.value_fields import label_of, value_field, whole_reference
from graphs.web.json_fields import JsonField
from graphs.web.pickers import MAX_CHOICES
from graphs.web.schema_forms import AREA
from graphs.web.touched_form import MergedForm

NONE = ("", "–")
MIN_BACKOFF, MIN_TIMEOUT, MAX_TIMEOUT, MAX_RETRIES = 0.001, 0.001, 86_400, 1000


class NodeFields(MergedForm):
    """The fields of the node `name`. Inputs that are not in its schema are one field of JSON."""

    id = forms.CharField(
        max_length=200,
        label="Id",
        help_text="Other nodes refer to this node by its id. Renaming it updates them.",
    )
    label = forms.CharField(
        max_length=500, required=False, help_text="Shown in pictures instead of the id."
    )

    def __init__(
        self,
        definition: Definition,
        name: str,
        kinds: input_suggestions.Kinds,
        data: Mapping[str, str] | None = None,
    ) -> None:
        self.former = edits.node_of(definition, name)
        self.former_data: NodeData = self.former.get("data") or {}
        self.kind: Kind | None = kinds.get(name)
        self.inputs: JsonObject = self.former_data.get("inputs") or {}
        self.schema: Mapping[str, Json] = (self.kind.inputs_schema if self.kind else None) or {}
        super().__init__(data, initial={"id": name, "label": self.former.get("label", "")})
        self.rows: dict[str, Rows] = {}
        self.offers = input_suggestions.offers(definition, name, kinds)
        self.known = list(self.schema.get("properties") or {})
        for input_name in self.known:
            self._add_input(input_name, input_suggestions.member(self.schema, input_name))
        self._add_unknown_inputs()
        self._add_running_fields(definition, name)

    def _add_input(self, name: str, schema: Mapping[str, Json]) -> None:
        given = self.inputs.get(name)
        reference = whole_reference(given)
        literal = None if reference else given
        star = " *" if name in (self.schema.get("required") or ()) else ""
        label = f"{label_of(name, schema)}{star}"
        rows = Rows.of(f"in-{name}", label, schema, literal)
        if rows:
            self.rows[name] = rows
            self.fields |= rows.fields(self.data if self.is_bound else None)
        elif literal is not None or _takes_literals(schema):
            field = value_field(name, schema, literal)
            field.label = f"{field.label}{star}"
            self.fields[f"in-{name}"] = field
        if self.offers or reference or not (rows or f"in-{name}" in self.fields):
            self._add_reference(name, schema, reference, label)

    def _add_reference(
        self, name: str, schema: Mapping[str, Json], reference: str, label: str
    ) -> None:
        """A menu of references. Beside a list, it adds the chosen reference to the list."""
        is_array = schema.get("type") == "array"
        adds = is_array and isinstance(self.inputs.get(name), list)
        chosen = "" if adds else reference
        wanted = schema.get("items", {}) if is_array else schema
        self.fields[f"ref-{name}"] = forms.ChoiceField(
            choices=self._choices(wanted, chosen),
            required=False,
            label=f"{label} {'– add' if adds else 'from'}",
            initial=chosen,
        )

    def _choices(self, wanted: Mapping[str, Json], chosen: str) -> list[tuple[str, Json]]:
        """The references, those whose values fit the schema first."""
        fitting: list[Offer] = []
        others: list[Offer] = []
        for offer in self.offers:
            fits = input_suggestions.fits(offer.schema, wanted)
            (fitting if fits else others).append(offer)
        choices: list[tuple[str, Json]] = [NONE]
        if chosen and chosen not in {offer.text for offer in self.offers}:
            choices.append((chosen, chosen.strip("${} ")))
        for title, offers in (("Fits", fitting), ("Other", others)):
            if offers:
                choices.append((title, [(offer.text, offer.reference) for offer in offers]))
        return choices

    def _add_unknown_inputs(self) -> None:
        unknown = {key: value for key, value in self.inputs.items() if key not in self.known}
        if unknown or not self.known:
            self.fields["extra"] = JsonField(
                required=False,
                label="Inputs that are not in the schema (JSON)" if self.known else "Inputs (JSON)",
                initial=unknown or None,
                widget=forms.Textarea(attrs=AREA),
            )

    def _add_running_fields(self, definition: Definition, name: str) -> None:
        unites: Mapping[str, Json] = self.former_data.get("unites") or {}
        ids = plan.nodes_before(definition, name)[:MAX_CHOICES]
        if unites and unites["identifier"] not in ids:
            ids.append(unites["identifier"])
        self.fields |= _join_fields(unites, ids)
        self.fields |= _retry_fields(self.former_data.get("retry") or {})
        self.fields |= _other_fields(self.former_data, self.former.get("position") or {})


def _takes_literals(schema: Mapping[str, Json]) -> bool:
    """Whether a value may be written. An object with fixed members only comes from a reference."""
    return schema.get("type") != "object" or bool(schema.get("additionalProperties"))


def _join_fields(unites: Mapping[str, Json], ids: Sequence[str]) -> dict[str, forms.Field]:
    """Of which node's fan-out this node waits for, and when it runs."""
    return {
        "unites": forms.ChoiceField(
            choices=[NONE, *((name, name) for name in ids)],
            required=False,
            label="Unites all branches of",
            initial=unites.get("identifier", ""),
        ),
        "strategy": forms.ChoiceField(
            choices=[("ALL_SUCCESS", "when all succeeded"), ("ALL_DONE", "when all are done")],
            required=False,
            label="It runs",
            initial=unites.get("strategy", "ALL_SUCCESS"),
        ),
    }


def _retry_fields(retry: Mapping[str, Json]) -> dict[str, forms.Field]:
    strategies = [(name, name.replace("_", " ").lower()) for name in sorted(retry_delay.STRATEGIES)]
    return {
        "max_retries": forms.IntegerField(
            min_value=0,
            max_value=MAX_RETRIES,
            required=False,
            label="Retries",
            initial=retry.get("max_retries"),
        ),
        "retry_strategy": forms.ChoiceField(
            choices=[NONE, *strategies],
            required=False,
            label="Delay between retries",
            initial=retry.get("strategy", ""),
        ),
        "backoff_factor": forms.FloatField(
            min_value=MIN_BACKOFF,
            required=False,
            label="First delay (ms)",
            initial=retry.get("backoff_factor"),
        ),
    }


def _other_fields(data: NodeData, position: Mapping[str, Json]) -> dict[str, forms.Field]:
    return {
        "timeout": forms.FloatField(
            min_value=MIN_TIMEOUT,
            max_value=MAX_TIMEOUT,
            required=False,
            label="Timeout (s)",
            initial=data.get("timeout"),
        ),
        "side_effects": forms.BooleanField(
            required=False,
            label="Has side effects",
            initial=bool(data.get("side_effects")),
            help_text="Its outcome is recorded immediately, not in a batch with others.",
        ),
        "x": forms.FloatField(
            required=False,
            initial=position.get("x"),
            help_text="Leave it empty for an automatic position.",
        ),
        "y": forms.FloatField(required=False, initial=position.get("y")),
    }
