"""FlowView of a graph as large as graphs may be: its pages are small, and every node is reached."""

import re
from itertools import pairwise

import pytest

from graphs.definition.schema import MAX_NODES
from graphs.editor import excerpt
from graphs.models import Graph
from graphs.services.publish import publish_graph
from graphs.web.pickers import MAX_CHOICES
from tests.support.flow_client import SCRIPT, Flow

pytestmark = pytest.mark.django_db
MAX_BYTES = 500_000
COUNT = 1000  # nodes of a graph that is large, but quickly checked
IDS = [f"node-{number}" for number in range(COUNT)]
LAST = IDS[-1]


def chain(ids):
    return list(pairwise(ids))


def fan(ids):
    return [(ids[0], name) for name in ids[1:]]


def funnel(ids):
    return [(name, ids[-1]) for name in ids[:-1]]


def dense(ids):
    """The first nodes have an edge to each other one of them."""
    firsts = ids[:150]
    return [(a, b) for at, a in enumerate(firsts) for b in firsts[at + 1 :]]


def definition(edges, count=COUNT):
    ids = [f"node-{number}" for number in range(count)]
    return {
        "nodes": [{"id": name, "kind": "noop", "namespace": "builtin"} for name in ids],
        "edges": [{"from": start, "to": end} for start, end in edges(ids)],
    }


@pytest.fixture
def large(staff, namespace):
    """A function that publishes a large graph."""

    def make(edges=chain, count=COUNT):
        return Flow(staff, publish_graph(namespace, "large", definition(edges, count)))

    return make


def content(page):
    assert page.status_code == 200
    return page.content.decode()


def drawn(page):
    """The nodes of the picture."""
    return re.findall(r'class="rm-node[^>]* data-node="([^"]*)"', page)


def listed(page):
    return re.findall(r'<th scope="row" data-label="Id">\s*<a [^>]*>([^<]*)</a>', page)


def sizes(flow, *paths):
    return {path: len(content(flow.get(path))) for path in paths}


def test_pages_of_the_largest_graph_stay_small(large):
    last = f"node-{MAX_NODES - 1}"
    flow = large(chain, MAX_NODES)
    found = sizes(flow, "", f"?node={last}", "?view=list")
    found["script"] = len(content(flow.get(f"?node={last}", **SCRIPT)))
    assert max(found.values()) < MAX_BYTES, found


@pytest.mark.parametrize("edges", [fan, funnel, dense])
def test_pages_of_a_graph_with_many_edges_stay_small(large, edges):
    flow = large(edges)
    found = sizes(
        flow,
        "?node=node-0",
        f"?node={LAST}",
        "?start=node-0&end=node-1",
        "?view=list",
        f"?view=list&node={LAST}",
        "?view=list&find=node-7",
    )
    assert max(found.values()) < MAX_BYTES, found


def test_the_picture_shows_the_nodes_around_the_chosen_one(large):
    flow = large()
    page = content(flow.get("?node=node-500"))
    numbers = sorted(int(name.partition("-")[2]) for name in drawn(page))
    assert len(numbers) == excerpt.MAX_NODES
    assert (numbers[0], numbers[-1]) in ((400, 599), (401, 600))
    assert "200 of 1,000 nodes" in page
    assert drawn(content(flow.get()))[0] == "node-0"
    page = content(flow.get("?start=node-700&end=node-701"))
    assert {"node-700", "node-701"} <= set(drawn(page))


def test_a_node_outside_of_the_picture_is_reached(large):
    flow = large()
    assert LAST not in drawn(content(flow.get()))
    assert LAST in drawn(content(flow.get(f"?node={LAST}")))
    parts = content(flow.get(f"?node={LAST}&shown={flow.revision}", **SCRIPT))
    assert LAST in drawn(parts), "a script gets the other part of the picture"
    assert "There is no node “nothing”" in content(flow.get("?node=nothing"))


def test_the_list_is_searched(large):
    flow = large()
    assert listed(content(flow.get("?view=list"))) == IDS[: excerpt.MAX_NODES]
    page = content(flow.get("?view=list&find=NODE-99&node=node-5"))
    assert listed(page)[0] == "node-5"
    assert set(listed(page)) == {"node-5", *(name for name in IDS if "node-99" in name)}
    assert listed(content(flow.get("?view=list&find=nowhere"))) == []


def test_names_are_typed_where_there_are_too_many_for_a_menu(large):
    flow = large()
    for path in ("?view=list", "?node=node-0", f"?node={LAST}"):
        assert content(flow.get(path)).count("<option") < 10 * MAX_CHOICES
    flow.post(op="connect", start="node-0", end=LAST)
    assert f"start=node-0&amp;end={LAST}" in content(flow.get("?view=list&find=node-0"))
    refused = flow.client.post(
        f"{flow.path}edit",
        {"revision": flow.revision, "op": "connect", "start": "node-0", "end": "none"},
        follow=True,
    )
    assert "none" in content(refused)


def test_a_form_keeps_what_its_menus_do_not_offer(large):
    """A reference to a node far before, and a node that is united from afar."""
    flow = large()
    far = {"value": "${{ node-1.outputs.value }}"}
    graph = Graph.objects.get(pk=flow.graph.pk)
    changed = definition(chain)
    changed["nodes"][-1]["data"] = {"inputs": far, "unites": {"identifier": "node-2"}}
    publish_graph(graph.namespace, "large", changed)
    page = content(flow.get(f"?node={LAST}"))
    assert "node-1.outputs.value" in page
    assert re.search(r'<option value="node-2" selected>', page)


def test_a_small_graph_is_shown_as_a_whole(staff, publish):
    count = excerpt.MAX_NODES
    drawing = " ".join(f"n{at}>n{at + 1}" for at in range(count - 1))
    flow = Flow(staff, publish(drawing))
    page = content(flow.get("?node=n7"))
    assert len(drawn(page)) == count
    assert "part of a large graph" not in page
    assert len(listed(content(flow.get("?view=list")))) == count
    assert flow.client.get(f"{flow.path}?view=list").content.count(b"Find nodes") == 0
