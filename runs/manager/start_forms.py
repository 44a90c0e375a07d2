"""What a run of a graph is started with: a version or the draft, and the form beside its inputs."""

from dataclasses import dataclass
from typing import cast

from django import forms
from django.db.models import Count
from django.http import QueryDict

from graphs.definition.types import Definition, JsonObject
from graphs.editor.flow import Flow
from graphs.editor.versions import version_of
from graphs.models import Dataset, Graph, GraphVersion
from graphs.web.pickers import PickerField
from runs.manager.choices import IN_NAMESPACE


class RunForm(forms.Form):
    """What a run has besides its inputs."""

    dataset = PickerField(
        Dataset.objects.none(),
        columns=IN_NAMESPACE,
        kind="datasets",
        required=False,
        label="Dataset",
        empty_label="– none –",
    )
    name = forms.CharField(
        required=False, max_length=200, help_text="The name that lists of runs show."
    )

    def __init__(
        self, graph: Graph, reads_dataset: bool, data: QueryDict | None, initial: JsonObject
    ) -> None:
        super().__init__(data, initial=initial)
        datasets = Dataset.objects.filter(namespace=graph.namespace_id).select_related("namespace")
        field = cast(PickerField, self.fields["dataset"])
        field.queryset = datasets.order_by("name")
        field.params = f"&graph={graph.pk}"
        field.required = reads_dataset
        field.help_text = "The graph reads tables of this dataset." if reads_dataset else ""


@dataclass(frozen=True)
class Subject:
    """What is to be run: a version or, if it is None, the draft."""

    definition: Definition
    version: GraphVersion | None = None

    @property
    def key(self) -> str:
        return str(self.version.number) if self.version else "draft"

    @property
    def inputs(self) -> JsonObject:
        """The schemas of the declared inputs."""
        return (self.definition.get("inputs") or {}).get("properties") or {}

    @property
    def tables(self) -> set[str | None]:
        """The tables of the dataset that the nodes read; None for names known only at run time."""
        tables: set[str | None] = set()
        for node in self.definition["nodes"]:
            if node["kind"] == "dataset.read":
                inputs = (node.get("data") or {}).get("inputs") or {}
                name = inputs.get("table")
                is_literal = isinstance(name, str) and "${{" not in name
                tables.add(name if is_literal else None)
        return tables

    @property
    def reads_dataset(self) -> bool:
        return bool(self.tables)


def subject_of(flow: Flow, key: str) -> Subject:
    """The version of this number, or the draft.

    Without a key, the draft is run if it is newer than the current version and can run.
    """
    version = version_of(flow.graph, key)
    draft_is_ready = flow.differs and not flow.errors and not flow.outdated
    wants_draft = key == "draft" and flow.differs
    if version is None and not (draft_is_ready or wants_draft):
        version = flow.graph.current
    return Subject(version.definition, version) if version else Subject(flow.definition)


def fitting_dataset(graph: Graph, tables: set[str | None]) -> int | None:
    """The newest dataset that has every table.

    If some names are known only at run time, the dataset is chosen only if it is the only one.
    """
    if not tables:
        return None
    datasets = Dataset.objects.filter(namespace=graph.namespace_id).order_by("-pk")
    names = tables - {None}
    if names:
        datasets = datasets.filter(tables__name__in=names).annotate(fitting=Count("tables"))
        datasets = datasets.filter(fitting=len(names))
    pks = list(datasets.values_list("pk", flat=True)[:2])
    is_certain = None not in tables or len(pks) == 1
    return pks[0] if pks and is_certain else None
