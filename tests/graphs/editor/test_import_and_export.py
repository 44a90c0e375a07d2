"""Pasting, importing, publishing, restoring and exporting definitions."""

import json
from urllib.parse import unquote

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from graphs.models import Graph
from graphs.services import drafts, exosphere_template
from graphs.services.publish import publish_graph
from tests.support.definitions import definition
from tests.support.flow_client import HOME, Flow, kind

pytestmark = pytest.mark.django_db


UNKNOWN_NODE = {
    "nodes": [{"id": "x", "kind": "no.such", "data": {"inputs": {"kept": [1]}, "odd": True}}],
    "edges": [{"from": "x", "to": "y"}],
}


def replace(flow, definition):
    """Save pasted JSON, a definition or a text, as the whole draft."""
    text = definition if isinstance(definition, str) else json.dumps(definition)
    return flow.post(op="replace", view="json", json=text)


def test_checking_pasted_json_lists_its_problems_and_changes_nothing(flow):
    page = flow.post("check", json=json.dumps(UNKNOWN_NODE)).content.decode()
    assert "no node &#x27;no.such&#x27; is registered" in page
    assert "&#x27;y&#x27;, which is not in this graph" in page
    assert flow.revision.revision == 0


def test_json_that_is_no_definition_is_refused_and_stays_in_the_form(flow):
    refused = replace(flow, {"nodes": [{"id": 1}, {"kind": "b"}], "edges": {}})
    page = refused.content.decode()
    assert refused.status_code == 422
    assert "/edges" in page
    assert "&quot;kind&quot;: &quot;b&quot;" in page
    assert flow.revision.revision == 0


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"x"',
        "null",
        '{"nodes": []',
        pytest.param("[" * 5000, id="deep"),
        '{"nodes":[{"id":"a\\u0000","kind":"x"}],"edges":[]}',
        '{"nodes":[{"id":"\\ud800","kind":"x"}],"edges":[]}',
    ],
)
def test_text_that_is_no_definition_is_refused(flow, text):
    assert replace(flow, text).status_code == 422
    assert flow.revision.revision == 0


def test_an_unknown_node_can_be_pasted_and_keeps_its_data(flow):
    replace(flow, UNKNOWN_NODE)
    page = flow.get("?node=x").content.decode()
    assert "not registered" in page
    assert "rm-unknown" in page
    flow.post(op="change", node="x", id="x", label="Odd", extra='{"kept": [1]}')
    assert flow.nodes["x"]["data"] == {"odd": True, "inputs": {"kept": [1]}}


EXOSPHERE_TEMPLATE = {
    "secrets": {},
    "nodes": [
        {
            "node_name": "log",
            "namespace": "",
            "identifier": "one",
            "inputs": {"message": "x"},
            "next_nodes": ["two"],
        },
        {
            "node_name": "noop",
            "identifier": "two",
            "inputs": {"value": "${{ one.outputs.value }}"},
        },
    ],
}


@pytest.fixture
def new_graph(staff, namespace):
    """new_graph("name", json=…): the page after the form for a new graph was sent."""

    def send(name, **values):
        form = {"name": name, "namespace": namespace.pk, **values}
        return staff.post(f"{HOME}new/", form, follow=True)

    return send


def test_a_pasted_exosphere_template_becomes_a_graph(staff, new_graph):
    page = new_graph("moved", json=json.dumps(EXOSPHERE_TEMPLATE)).content.decode()
    flow = Flow(staff, Graph.objects.get(name="moved"))
    assert list(flow.nodes) == ["one", "two"]
    assert "none: it can run" in page


def test_an_uploaded_exosphere_template_becomes_a_graph(new_graph):
    text = json.dumps({"graph_template": EXOSPHERE_TEMPLATE})
    new_graph("uploaded", file=SimpleUploadedFile("g.json", text.encode()))
    assert drafts.draft_of(Graph.objects.get(name="uploaded")).definition["edges"] == [
        {"from": "one", "to": "two"}
    ]


def test_a_new_graph_needs_a_name_that_is_free(new_graph):
    new_graph("used")
    refused = new_graph("used")
    assert refused.status_code == 422
    assert "already" in refused.content.decode()


def test_pasted_text_that_is_no_json_stays_in_the_form(flow):
    refused = flow.post(op="paste", view="json", json='{"nodes": [oops')
    assert refused.status_code == 422
    assert "[oops" in refused.content.decode()


def test_a_template_whose_node_name_is_no_text_is_refused(new_graph):
    template = '{"nodes": [{"node_name": ["noop"], "identifier": "a"}]}'
    assert new_graph("nasty", json=template).status_code == 422


def test_a_file_that_is_not_utf_8_is_refused(new_graph):
    refused = new_graph("bad", file=SimpleUploadedFile("g.json", b"\xff\xfe{"))
    assert "not UTF-8" in refused.content.decode()
    assert not Graph.objects.filter(name="bad").exists()


def test_publishing_shows_the_changes_and_restoring_an_old_version_publishes_nothing(flow):
    flow.post(op="change", node="a", id="a", label="First")
    page = flow.get("publish/").content.decode()
    assert "Publish version 2" in page
    assert "nodes.a.label" in page
    flow.post("publish/", note="a label")
    graph = Graph.objects.select_related("current").get()
    assert (graph.current.number, graph.current.note) == (2, "a label")
    page = flow.get("history/?version=2").content.decode()
    assert "a label" in page
    assert "nodes.a.label" in page
    flow.post("history/1/restore")
    assert "label" not in flow.nodes["a"]
    assert Graph.objects.get().current_id == graph.current_id


def test_restoring_an_unknown_version_answers_404(flow):
    assert flow.client.post(f"{flow.path}history/99/restore").status_code == 404


def publish(flow, **form):
    return flow.client.post(f"{flow.path}publish/", form)


def test_a_draft_with_errors_is_not_published_and_the_note_stays_in_the_form(flow):
    published = Graph.objects.get().current_id
    flow.post(kind=kind("log"), node="b")
    refused = publish(flow, revision=flow.revision, note="because")
    page = refused.content.decode()
    assert refused.status_code == 422
    assert "Graph validation failed" in page
    assert "because</textarea>" in page
    assert Graph.objects.get().current_id == published


def test_the_note_stays_in_the_form_if_somebody_changed_the_draft_meanwhile(flow):
    seen = flow.revision
    flow.post(op="change", node="a", id="a", label="Theirs")
    refused = publish(flow, revision=seen, note="mine")
    page = refused.content.decode()
    assert refused.status_code == 409
    assert "ann changed the draft meanwhile" in page
    assert "mine</textarea>" in page
    assert f'name="revision" value="{flow.revision}"' in page, (
        "the next click publishes the draft that the page shows now"
    )
    publish_graph(flow.graph.namespace, flow.graph.name, drafts.draft_of(flow.graph).definition)
    page = publish(flow, revision=seen, note="mine").content.decode()
    assert "Your note was: mine" in page


def test_publishing_without_a_revision_is_refused(flow):
    assert publish(flow, note="mine").status_code == 422


def test_a_graph_is_exported_in_every_format(flow):
    assert json.loads(flow.get("graph.json").content)["nodes"][0]["id"] == "a"
    assert flow.get("graph.mmd").content.decode().startswith("flowchart")
    assert b"<svg" in flow.get("graph.svg").content
    assert json.loads(flow.get("graph.template.json").content)["nodes"][0]["next_nodes"] == ["b"]
    assert flow.get("graph.exe").status_code == 404


def test_a_draft_with_loose_edges_can_be_exported(flow):
    loose = {
        "nodes": [{"id": "a", "kind": "noop"}],
        "edges": [{"from": "a", "to": "gone"}, {"from": "gone", "to": "a"}],
    }
    replace(flow, loose)
    for extension in ("json", "mmd", "svg", "template.json"):
        assert flow.get(f"graph.{extension}").status_code == 200, extension


def test_exporting_a_template_warns_of_what_the_format_cannot_express(flow):
    flow.post(op="condition", start="a", end="b", when="outputs.value > 1")
    refused = flow.get("graph.template.json")
    page = refused.content.decode()
    assert refused.status_code == 409
    assert "Content-Disposition" not in refused
    assert "the condition of a → b: outputs.value &gt; 1" in page
    assert 'graph.template.json?anyway">Download the template without them</a>' in page
    template = flow.get("graph.template.json?anyway")
    assert json.loads(template.content)["nodes"][0]["next_nodes"] == ["b"]
    assert json.loads(flow.get("graph.json").content)["edges"][0]["data"] == {
        "when": "outputs.value > 1"
    }, "our own JSON format keeps the condition"


def test_everything_that_a_template_cannot_express_is_listed():
    graph = definition(
        "a>b",
        data={
            "a": {"retry": {"max_retries": 1}, "lease": 9, "unites": None},
            "b": {"timeout": 5, "side_effects": True},
        },
        when={"a>b": "true"},
    )
    graph |= {"inputs": {"properties": {"day": {}}}, "metadata": {"by": "me"}}
    graph["settings"] = {
        "failure_policy": "stop",
        "max_failures": 0,
        "retry": {"max_retries": 2},
        "store": {"required_keys": ["k"]},
        "lease": 5,
        "max_steps": None,
    }
    assert [part.path for part in exosphere_template.inexpressible(graph)] == [
        "/edges/0/data/when",
        "/nodes/0/data/retry",
        "/nodes/1/data/timeout",
        "/nodes/1/data/side_effects",
        "/inputs",
        "/settings/failure_policy",
        "/settings/max_failures",
    ]


def test_the_default_failure_policy_needs_no_place_in_a_template():
    graph = definition("a>b") | {"settings": {"failure_policy": "continue"}}
    assert not list(exosphere_template.inexpressible(graph))


def test_a_file_with_a_byte_order_mark_is_imported(new_graph):
    text = '{"nodes": [], "edges": []}'.encode("utf-8-sig")
    new_graph("marked", file=SimpleUploadedFile("g.json", text))
    assert Graph.objects.filter(name="marked").exists()


def test_the_file_of_a_draft_is_named_like_the_graph(publish, admin_client):
    graph = publish("a", name="Заказ; “1”")
    answer = admin_client.get(f"/admin/graphs/graph/{graph.pk}/flow/graph.json")
    header = answer["Content-Disposition"]
    assert header.startswith("attachment; filename*=utf-8''")
    assert unquote(header.partition("''")[2]) == "Заказ; “1”.json"


def test_a_draft_whose_json_is_too_long_is_not_shown_but_replaced(flow, monkeypatch):
    monkeypatch.setattr("graphs.editor.flow.MAX_JSON", 10)
    page = flow.get("?view=json").content.decode()
    assert "too long to be shown" in page
    assert '"nodes"' not in page
    answer = flow.post(op="replace", view="json", json='{"nodes": [{"id": "x", "kind": "noop"}]}')
    assert answer.status_code in (200, 302)


def test_a_picture_that_is_too_large_is_missed_in_words(flow, monkeypatch):
    monkeypatch.setattr("graphs.rendering.svg.MAX_EDGES", -1)
    export = flow.get("graph.svg")
    assert (export.status_code, "at most -1 edges" in export.content.decode()) == (413, True)
    history = flow.get("history/?version=1")
    assert (history.status_code, "at most -1 edges" in history.content.decode()) == (200, True)
