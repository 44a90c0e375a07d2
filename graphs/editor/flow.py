"""What FlowView shows of one graph: its draft as picture, lists and forms, and what is wrong with it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.urls import reverse
from django.utils.http import urlencode

from graphs.auth.callers import Caller
from graphs.definition import edits, input_suggestions, lint, plan, validation
from graphs.definition.validation import Kind, Problem
from graphs.editor.inspector import NodeForm
from graphs.editor.settings_form import SettingsForm
from graphs.models import Graph, RegisteredNode
from graphs.rendering.svg import Look, editable, placed
from graphs.services import drafts, publish, undo
from graphs.services.kinds import Kinds

VIEWS = {"picture": "Picture", "list": "List", "json": "JSON"}
LINES = 200  # problems that the panel lists


@dataclass(frozen=True)
class Entry:
    """A node of the palette."""

    pk: int
    name: str
    said: str


class Flow:
    """One graph's draft, as the page needs it. `asked` is the query or the form: view, node, start and end of an edge.

    `base` says of what the forms are changes: the draft that is shown, or the older one that a form which comes back was shown of.
    """

    def __init__(
        self,
        caller: Caller,
        graph: Graph,
        asked: Mapping[str, Any],
        draft: drafts.Draft | None = None,
        form: Any = None,
        base: str | None = None,
    ) -> None:
        self.caller, self.graph = caller, graph
        self.draft = draft or drafts.draft_of(graph)
        self.base = base or str(self.draft.base)
        self.definition = self.draft.definition
        self.view = asked.get("view", "picture") if asked.get("view") in VIEWS else "picture"
        self.node = asked.get("node", "") if asked.get("node") in self.ids else ""
        self.edge = next(
            (
                edge
                for edge in self.definition["edges"]
                if (edge["from"], edge["to"]) == (asked.get("start"), asked.get("end"))
            ),
            None,
        )
        self._form = form

    @property
    def drawn(self) -> str:
        """The part of the page that shows the whole draft."""
        return "list" if self.view == "list" else "picture"

    @cached_property
    def ids(self) -> list[str]:
        return [node["id"] for node in self.definition["nodes"]]

    @cached_property
    def kinds(self) -> dict[str, Kind | None]:
        return kinds_of(self.graph, self.definition, self.caller)

    @cached_property
    def may_edit(self) -> bool:
        return self.caller.can("start", self.graph.namespace_id)

    def address(self, **more: Any) -> str:
        """This page with another choice."""
        return f"{reverse('flow', args=[self.graph.pk])}?{urlencode({'view': self.view, **more})}"

    @property
    def svg(self) -> str:
        conditional = {
            (edge["from"], edge["to"])
            for edge in self.definition["edges"]
            if (edge.get("data") or {}).get("when")
        }
        return editable(
            placed(self.definition),
            self._looks(),
            f"Draft of {self.graph.name}",
            self.address(),
            self.node,
            conditional,
        )

    def _looks(self) -> dict[str, Look]:
        wrong = (
            {problem.nodeId for problem in self.errors} if "problems" in self.__dict__ else set()
        )

        def state(name: str) -> str:
            return (
                "unknown" if self.kinds[name] is None else "wrong" if name in wrong else "waiting"
            )

        return {
            node["id"]: Look(node.get("label") or node["id"], node["kind"], state(node["id"]))
            for node in self.definition["nodes"]
        }

    @cached_property
    def problems(self) -> tuple[list[Problem], list[Problem]]:
        """Errors and warnings."""
        return found_in(self.graph, self.definition, self.caller)

    @property
    def errors(self) -> list[Problem]:
        return self.problems[0]

    @property
    def some_problems(self) -> list[tuple[str, Problem, str]]:
        """(severity, problem, where to mend it) of the first."""
        rows = [("error", each) for each in self.problems[0]] + [
            ("warning", each) for each in self.problems[1]
        ]
        return [(severity, each, self.place_of(each)) for severity, each in rows[:LINES]]

    def place_of(self, problem: Problem) -> str:
        parts = problem.path.strip("/").split("/")
        if (
            parts[0] == "edges"
            and len(parts) > 1
            and parts[1].isdigit()
            and int(parts[1]) < len(self.definition["edges"])
        ):
            edge = self.definition["edges"][int(parts[1])]
            return self.address(start=edge["from"], end=edge["to"]) + "#fl-inspector"
        return (
            self.address(**({"node": problem.nodeId} if problem.nodeId else {})) + "#fl-inspector"
        )

    @property
    def wrong(self) -> list[str]:
        """The nodes that have errors."""
        return sorted({problem.nodeId for problem in self.errors if problem.nodeId})

    @property
    def marks(self) -> str:
        """The same for a script."""
        return json.dumps(self.wrong)

    @property
    def json(self) -> str:
        """The draft for people to change, without what publishing works out."""
        nodes = [
            {key: value for key, value in node.items() if key != "text"}
            for node in self.definition["nodes"]
        ]
        return json.dumps({**self.definition, "nodes": nodes}, ensure_ascii=False, indent=2)

    @cached_property
    def form(self) -> Any:
        """The node's form, or that of the graph's settings."""
        if self._form is not None:
            return self._form
        return (
            NodeForm(self.definition, self.node, self.kinds)
            if self.node
            else SettingsForm(self.definition)
        )

    @property
    def about(self) -> dict[str, Any]:
        """The chosen node: itself, what it is registered as, what leads to it and what it leads to."""
        node = edits.node_of(self.definition, self.node)
        edges, kind = self.definition["edges"], self.kinds[self.node]
        registered = (
            RegisteredNode.objects.filter(
                namespace__name=kind.namespace, name=node["kind"]
            ).values_list("description", flat=True)
            if kind
            else ()
        )
        return {
            "description": next(iter(registered), "").partition("\n\n")[0].replace("`", ""), "rest": set(node.get("data") or {}) - {"inputs"},
            "node": node, "kind": kind, "before": [edge for edge in edges if edge["to"] == self.node],
            "after": [edge for edge in edges if edge["from"] == self.node],
            "outputs": list(input_suggestions.outputs_of(self.node, kind)), "json": json.dumps({"nodes": [node], "edges": []}, ensure_ascii=False, indent=2),
        }  # fmt: skip

    @property
    def others(self) -> list[str]:
        """The nodes that may follow the chosen one."""
        taken = {edge["to"] for edge in self.definition["edges"] if edge["from"] == self.node} | {
            self.node
        }
        above = set(plan.nodes_before(self.definition, self.node))
        return [name for name in self.ids if name not in taken and name not in above]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The nodes of the list."""
        before: dict[str, list[str]] = {}
        for edge in self.definition["edges"]:
            before.setdefault(edge["to"], []).append(edge["from"])
        counts = {
            name: sum(problem.nodeId == name for problem in self.errors) for name in self.wrong
        }
        return [
            {
                **node,
                "after": before.get(node["id"], []),
                "wrong": counts.get(node["id"], 0),
                "known": self.kinds[node["id"]],
            }
            for node in self.definition["nodes"]
        ]

    @property
    def palette(self) -> dict[str, list[Entry]]:
        return palette_of(self.graph, self.caller)

    @cached_property
    def steps(self) -> undo.Steps:
        return undo.steps_of(self.graph)

    @cached_property
    def differs(self) -> bool:
        return drafts.differs(self.graph, self.draft)

    @property
    def next_number(self) -> int:
        """The number of the version that publishing would make."""
        return (
            self.graph.versions.order_by("-number").values_list("number", flat=True).first() or 0
        ) + 1

    @property
    def outdated(self) -> bool:
        """Whether a version was published by another way after the draft was begun."""
        change = self.draft.change
        return bool(
            change
            and self.graph.current
            and change.version < self.graph.current.number
            and self.differs
        )


def kinds_of(graph: Graph, definition: Mapping[str, Any], caller: Caller) -> dict[str, Kind | None]:
    """What each node of a definition is registered as; None where nothing is."""
    kinds = Kinds(graph.namespace.name, definition, caller)
    return {
        node["id"]: kinds.find(node.get("namespace") or "", node["kind"])
        for node in definition["nodes"]
    }


def found_in(graph: Graph, definition: Any, caller: Caller) -> tuple[list[Problem], list[Problem]]:
    """Errors and warnings of a definition in this graph's namespace, with its secrets."""
    kinds = Kinds(graph.namespace.name, definition, caller)
    wrong = publish.find_problems(
        definition, kinds, set(graph.secrets.values_list("name", flat=True))
    )
    return wrong, [] if validation.shape_problems(definition) else lint.warnings(definition)


def first_sentence(text: str) -> str:
    return re.split(r"(?<=[.;])\s", text.replace("`", ""), maxsplit=1)[0].removesuffix(";")


def palette_of(graph: Graph, caller: Caller) -> dict[str, list[Entry]]:
    """The registered nodes that may be added, in groups by the first part of their name, or by the namespace that they come from."""
    groups: dict[str, list[Entry]] = {}
    found = (
        RegisteredNode.objects.select_related("namespace")
        .defer("inputs_schema", "outputs_schema")
        .order_by("name")
    )
    for node in found:
        space = node.namespace.name
        if space not in (graph.namespace.name, plan.BUILTIN) and not caller.sees(node.namespace_id):
            continue
        head, dot, _ = node.name.partition(".")
        group = space if space not in (plan.BUILTIN,) else head if dot else "steps"
        groups.setdefault(group, []).append(
            Entry(node.pk, node.name, first_sentence(node.description))
        )
    return dict(sorted(groups.items()))
