"""FlowView without a browser: what a page shows and what its forms send."""

from graphs.models import Graph, RegisteredNode
from graphs.services import drafts

HOME = "/admin/flow/"


class Flow:
    def __init__(self, client, graph):
        self.client, self.graph, self.path = client, graph, f"/admin/graphs/graph/{graph.pk}/flow/"

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
    return RegisteredNode.objects.get(name=name, namespace__name="builtin").pk


def settings(*names, **more):
    """The form of a graph's settings with inputs of these names."""
    rows = {
        f"{part}-{at}": value
        for at, name in enumerate(names)
        for part, value in (("name", name), ("type", "string"))
    }
    return {"op": "settings", "failure_policy": "continue", **rows, **more}


def inputs(flow):
    return (
        drafts.draft_of(Graph.objects.with_version().get(pk=flow.graph.pk))
        .definition.get("inputs", {})
        .get("properties", {})
    )


SCRIPT = {"headers": {"HX-Request": "true"}}


def fields(page):
    """What the form of a run sends of itself."""
    return {
        "run_id": page.context["run_id"],
        "version": page.context["subject"].key,
        "revision": str(page.context["flow"].draft.base),
        "inputs": "{}",
    }
