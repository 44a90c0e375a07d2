"""What FlowView shows of a graph: its draft as a picture, lists and forms, and its problems."""

import json
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from itertools import islice

from django.urls import reverse
from django.utils.http import urlencode

from graphs.auth.callers import Caller
from graphs.definition import plan, redaction
from graphs.definition.types import Definition, EdgeDefinition, JsonObject
from graphs.definition.validation import Kind, Problem
from graphs.editor import excerpt
from graphs.editor.checks import kinds_of, problems_of
from graphs.editor.inspector import NodeForm
from graphs.editor.node_details import NodeDetails, details_of
from graphs.editor.palette import Palette, palette_of
from graphs.editor.settings_form import SettingsForm
from graphs.models import Graph
from graphs.rendering.svg import Look, editable, placed
from graphs.services import drafts, undo
from graphs.web.pickers import MAX_CHOICES

VIEWS = {"picture": "Picture", "list": "List", "json": "JSON"}
MAX_SEARCH = 100  # characters
MAX_JSON = 500_000  # characters of the draft's JSON that the page shows
MAX_PROBLEMS = 200  # problems that the panel lists
INSPECTOR = "#fl-inspector"


def shown(graph: Graph, definition: Definition, caller: Caller) -> Definition:
    """A definition of the graph as the caller may see it."""
    seen: Definition = redaction.definition_shown(
        definition, caller.can("payloads", graph.namespace_id)
    )
    return seen


class Flow:
    """The draft of a graph as the page shows it.

    `choice` is the query or the form: the view, what the list is searched for, and the chosen node,
    or the start and end of the chosen edge. `unknown` is a chosen node that the draft lacks. `base`
    is the draft that the forms on the page are changes of. It is the current draft, or an older one
    when a form is shown again that was filled in for that. `definition` is that of the draft, with
    dots for secrets if the caller may not see payloads.
    """

    def __init__(
        self,
        caller: Caller,
        graph: Graph,
        choice: Mapping[str, str],
        draft: drafts.Draft | None = None,
        form: NodeForm | SettingsForm | None = None,
        base: str | None = None,
    ) -> None:
        self.caller, self.graph = caller, graph
        self.draft = draft or drafts.draft_of(graph)
        self.base = base or str(self.draft.base)
        self.definition = shown(graph, self.draft.definition, caller)
        view, node = choice.get("view", ""), choice.get("node", "")
        self.view = view if view in VIEWS else "picture"
        self.node = node if node in self.ids else ""
        self.unknown = node[:MAX_SEARCH] if not self.node else ""
        self.edge = self._edge(choice.get("start"), choice.get("end"))
        self.search = choice.get("search", "")[:MAX_SEARCH]
        self.find = choice.get("find", "")[:MAX_SEARCH]
        self._form = form

    def _edge(self, start: str | None, end: str | None) -> EdgeDefinition | None:
        for edge in self.definition["edges"]:
            if (edge["from"], edge["to"]) == (start, end):
                return edge
        return None

    @property
    def drawing(self) -> str:
        """The part of the page that shows the whole draft: `list` or `picture`."""
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

    def address(self, **choice: str) -> str:
        """The URL of this page with another node or edge chosen."""
        query = urlencode({"view": self.view, **choice})
        return f"{reverse('flow', args=[self.graph.pk])}?{query}"

    @property
    def node_address(self) -> str:
        """The URL of this page with the chosen node."""
        return self.address(node=self.node) if self.node else self.address()

    @cached_property
    def excerpt(self) -> excerpt.Excerpt:
        """The part of the draft that the drawing shows."""
        if self.drawing == "list":
            return excerpt.found(self.definition, self.find, self.node)
        ends = [self.edge["from"], self.edge["to"]] if self.edge else []
        return excerpt.around(self.definition, [self.node] if self.node else ends)

    @property
    def is_large(self) -> bool:
        """Whether the picture depends on what is chosen."""
        return self.drawing == "picture" and self.excerpt.is_part

    @property
    def svg(self) -> str:
        drawn = self.excerpt.definition
        conditional = {
            (edge["from"], edge["to"])
            for edge in drawn["edges"]
            if (edge.get("data") or {}).get("when")
        }
        title = f"Draft of {self.graph.name}"
        layout, looks = placed(drawn), self._looks()
        return editable(layout, looks, title, self.address(), self.node, conditional)

    def _looks(self) -> dict[str, Look]:
        """How each node looks. Errors are marked only if the page has looked them up already."""
        wrong = self.wrong if "problems" in self.__dict__ else []
        looks = {}
        for node in self.excerpt.definition["nodes"]:
            name, state = node["id"], "waiting"
            if self.kinds[name] is None:
                state = "unknown"
            elif name in wrong:
                state = "wrong"
            looks[name] = Look(node.get("label") or name, node["kind"], state)
        return looks

    @cached_property
    def problems(self) -> tuple[list[Problem], list[Problem]]:
        """(errors, warnings)"""
        return problems_of(self.graph, self.draft.definition, self.caller)

    @property
    def errors(self) -> list[Problem]:
        return self.problems[0]

    @property
    def problem_summary(self) -> str:
        """The numbers of errors and warnings, and whether the draft can run."""
        errors, warnings = map(len, self.problems)
        numbers = [
            f"{number} {name}{'s' if number > 1 else ''}"
            for number, name in ((errors, "error"), (warnings, "warning"))
            if number
        ]
        summary = ", ".join(numbers) or "none"
        return summary if errors else f"{summary}: it can run"

    @property
    def listed_problems(self) -> list[tuple[str, Problem, str]]:
        """(severity, problem, URL of the place to fix it) of the first problems."""
        errors, warnings = self.problems
        problems = [("error", problem) for problem in errors]
        problems += [("warning", problem) for problem in warnings]
        return [
            (severity, problem, self._place_of(problem))
            for severity, problem in problems[:MAX_PROBLEMS]
        ]

    def _place_of(self, problem: Problem) -> str:
        """The URL that opens the form of the node or edge with the problem."""
        collection, *rest = problem.path.strip("/").split("/")
        edges = self.definition["edges"]
        is_edge = collection == "edges" and rest and rest[0].isdigit()
        if is_edge and int(rest[0]) < len(edges):
            edge = edges[int(rest[0])]
            return self.address(start=edge["from"], end=edge["to"]) + INSPECTOR
        if problem.nodeId:
            return self.address(node=problem.nodeId) + INSPECTOR
        return self.address() + INSPECTOR

    @property
    def wrong(self) -> list[str]:
        """The nodes of the drawing that have errors."""
        wrong = {problem.nodeId for problem in self.errors if problem.nodeId}
        return sorted(wrong & self.excerpt.ids)

    @property
    def marks(self) -> str:
        """The nodes that have errors, for the script that marks them."""
        return json.dumps(self.wrong)

    @property
    def json(self) -> str:
        """The draft as JSON to edit, without the parts that publishing adds."""
        nodes = [
            {key: value for key, value in node.items() if key != "text"}
            for node in self.definition["nodes"]
        ]
        return json.dumps({**self.definition, "nodes": nodes}, ensure_ascii=False, indent=2)

    @cached_property
    def json_to_edit(self) -> str:
        """The draft as JSON, or "" if it is too long for a page."""
        text = self.json
        return text if len(text) <= MAX_JSON else ""

    @cached_property
    def form(self) -> NodeForm | SettingsForm:
        """The form of the chosen node, or of the graph's settings."""
        if self._form is not None:
            return self._form
        if self.node:
            return NodeForm(self.definition, self.node, self.kinds)
        return SettingsForm(self.definition)

    @property
    def details(self) -> NodeDetails:
        """The chosen node."""
        return details_of(self.definition, self.node, self.kinds[self.node])

    @property
    def has_menus(self) -> bool:
        """Whether the nodes fit into a menu. The name of one among more is typed."""
        return len(self.ids) <= MAX_CHOICES

    @cached_property
    def possible_followers(self) -> list[str]:
        """The nodes that an edge from the chosen one may lead to without making a cycle.

        Of a large draft, some of them.
        """
        edges = self.definition["edges"]
        taken = {edge["to"] for edge in edges if edge["from"] == self.node}
        above = plan.nodes_before(self.definition, self.node)
        excluded = {self.node, *taken, *above}
        possible = (name for name in self.ids if name not in excluded)
        return list(islice(possible, MAX_CHOICES))

    @property
    def rows(self) -> list[JsonObject]:
        """The nodes as the list shows them."""
        before: dict[str, list[str]] = {}
        for edge in self.definition["edges"]:
            before.setdefault(edge["to"], []).append(edge["from"])
        errors = Counter(problem.nodeId for problem in self.errors)
        return [
            {
                **node,
                "after": _some(before.get(node["id"], [])),
                "errors": errors[node["id"]],
                "known": self.kinds[node["id"]],
            }
            for node in self.excerpt.definition["nodes"]
        ]

    @cached_property
    def palette(self) -> Palette:
        return palette_of(self.graph, self.caller, self.search)

    @cached_property
    def steps(self) -> undo.Steps:
        return undo.steps_of(self.graph)

    @cached_property
    def differs(self) -> bool:
        """Whether the draft differs from the current version."""
        return drafts.differs(self.graph, self.draft)

    @property
    def next_number(self) -> int:
        """The number of the version that publishing would make."""
        numbers = self.graph.versions.order_by("-number").values_list("number", flat=True)
        return (numbers.first() or 0) + 1

    @property
    def outdated(self) -> bool:
        """Whether a version was published in another way since the draft was begun."""
        change, current = self.draft.change, self.graph.current
        if change is None or current is None:
            return False
        return change.version < current.number and self.differs


def _some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - excerpt.MAX_NAMED
    first = ", ".join(names[: excerpt.MAX_NAMED])
    return f"{first} and {more:,} more" if more > 0 else first
