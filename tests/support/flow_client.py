"""FlowView without a browser: its pages, and what their forms send."""

from graphs.models import Graph, RegisteredNode
from graphs.services import drafts

HOME = "/admin/flow/"


class Flow:
    """A client of the FlowView pages of one graph."""

    def __init__(self, client, graph):
        self.client = client
        self.graph = graph
        self.path = f"/admin/graphs/graph/{graph.pk}/flow/"

    def get(self, more="", **options):
        return self.client.get(f"{self.path}{more}", **options)

    def post(self, more="edit", **values):
        return self.client.post(
            f"{self.path}{more}", {"revision": self.revision, "view": "list", **values}
        )

    @property
    def revision(self):
        return drafts.draft_of(Graph.objects.with_version().get(pk=self.graph.pk)).base

    @property
    def nodes(self):
        graph = Graph.objects.with_version().get(pk=self.graph.pk)
        return {node["id"]: node for node in drafts.draft_of(graph).definition["nodes"]}


def kind(name):
    """The id of a built-in node, as the palette sends it."""
    return RegisteredNode.objects.get(name=name, namespace__name="builtin").pk


def settings(*names, **more):
    """The form of a graph's settings, with one input for each name."""
    rows = {
        f"{part}-{index}": value
        for index, name in enumerate(names)
        for part, value in (("name", name), ("type", "string"))
    }
    return {"op": "settings", "failure_policy": "continue", **rows, **more}


def inputs(flow):
    """The properties of the draft's inputs."""
    graph = Graph.objects.with_version().get(pk=flow.graph.pk)
    return drafts.draft_of(graph).definition.get("inputs", {}).get("properties", {})


SCRIPT = {"headers": {"HX-Request": "true"}}


def fields(page):
    """The fields that the form of a run sends unchanged."""
    return {
        "run_id": page.context["run_id"],
        "version": page.context["subject"].key,
        "revision": str(page.context["flow"].draft.base),
        "inputs": "{}",
    }
