"""Definitions that are pasted, published, restored and exported."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from graphs.models import Graph
from graphs.services import drafts, exosphere_template
from graphs.services.publish import publish_graph
from tests.support.definitions import definition
from tests.support.flow_client import HOME, Flow, kind

pytestmark = pytest.mark.django_db


def test_pasted_json_is_checked_and_changes_nothing_until_saved(flow):
    pasted = {
        "nodes": [{"id": "x", "kind": "no.such", "data": {"inputs": {"kept": [1]}, "odd": True}}],
        "edges": [{"from": "x", "to": "y"}],
    }
    page = flow.post("check", json=json.dumps(pasted)).content.decode()
    assert "no node &#x27;no.such&#x27; is registered" in page
    assert "&#x27;y&#x27;, which is not in this graph" in page
    assert flow.revision.revision == 0
    wrong = flow.post(
        op="replace",
        view="json",
        json=json.dumps({"nodes": [{"id": 1}, {"kind": "b"}], "edges": {}}),
    )
    assert wrong.status_code == 422
    assert "/edges" in wrong.content.decode()
    assert "&quot;kind&quot;: &quot;b&quot;" in wrong.content.decode(), (
        "what was pasted is still there"
    )
    for text in (
        "{",
        "[]",
        '"x"',
        "null",
        '{"nodes": []',
        "[" * 5000,
        '{"nodes":[{"id":"a\\u0000","kind":"x"}],"edges":[]}',
        '{"nodes":[{"id":"\\ud800","kind":"x"}],"edges":[]}',
    ):
        assert flow.post(op="replace", view="json", json=text).status_code == 422, text[:40]
    assert flow.revision.revision == 0
    flow.post(op="replace", view="json", json=json.dumps(pasted))
    page = flow.get("?node=x").content.decode()
    assert "not registered" in page
    assert "rm-unknown" in page
    flow.post(op="change", node="x", id="x", label="Odd", extra='{"kept": [1]}')
    assert flow.nodes["x"]["data"] == {"odd": True, "inputs": {"kept": [1]}}, (
        "an unknown node keeps its data"
    )


def test_templates_of_exosphere_are_taken(staff, namespace):
    template = {
        "secrets": {}, "nodes": [
            {"node_name": "log", "namespace": "", "identifier": "one", "inputs": {"message": "x"}, "next_nodes": ["two"]},
            {"node_name": "noop", "identifier": "two", "inputs": {"value": "${{ one.outputs.value }}"}},
        ],
    }  # fmt: skip
    answer = staff.post(
        f"{HOME}new/",
        {"name": "moved", "namespace": namespace.pk, "json": json.dumps(template)},
        follow=True,
    )
    graph = Graph.objects.get(name="moved")
    flow = Flow(staff, graph)
    assert list(flow.nodes) == ["one", "two"]
    assert "none: it can run" in answer.content.decode()
    file = SimpleUploadedFile("g.json", json.dumps({"graph_template": template}).encode())
    staff.post(f"{HOME}new/", {"name": "again", "namespace": namespace.pk, "file": file})
    assert drafts.draft_of(Graph.objects.get(name="again")).definition["edges"] == [
        {"from": "one", "to": "two"}
    ]
    taken = staff.post(f"{HOME}new/", {"name": "again", "namespace": namespace.pk})
    assert taken.status_code == 422
    assert "already" in taken.content.decode()
    flow_of = Flow(staff, Graph.objects.get(name="again"))
    kept = flow_of.post(op="paste", view="json", json='{"nodes": [oops')
    assert kept.status_code == 422
    assert "[oops" in kept.content.decode(), "what was pasted is still there"
    nasty = staff.post(
        f"{HOME}new/",
        {
            "name": "nasty",
            "namespace": namespace.pk,
            "json": '{"nodes": [{"node_name": ["noop"], "identifier": "a"}]}',
        },
    )
    assert nasty.status_code == 422
    bad = staff.post(
        f"{HOME}new/",
        {
            "name": "bad",
            "namespace": namespace.pk,
            "file": SimpleUploadedFile("g.json", b"\xff\xfe{"),
        },
    )
    assert "not UTF-8" in bad.content.decode()
    assert not Graph.objects.filter(name="bad").exists()


def test_publishing_shows_what_changes_and_history_restores(flow):
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
    assert Graph.objects.get().current_id == graph.current_id, "restoring publishes nothing"
    assert flow.client.post(f"{flow.path}history/99/restore").status_code == 404
    flow.post(kind=kind("log"), node="b")
    refused = flow.client.post(
        f"{flow.path}publish/", {"revision": flow.revision, "note": "because"}
    )
    assert refused.status_code == 422
    assert "Graph validation failed" in refused.content.decode()
    assert "because</textarea>" in refused.content.decode(), "the note is kept"
    assert Graph.objects.get().current_id == graph.current_id


def test_a_note_is_kept_when_the_draft_was_changed_meanwhile(flow):
    seen = flow.revision
    flow.post(op="change", node="a", id="a", label="Theirs")
    refused = flow.client.post(f"{flow.path}publish/", {"revision": seen, "note": "mine"})
    page = refused.content.decode()
    assert refused.status_code == 409
    assert "ann changed the draft meanwhile" in page
    assert "mine</textarea>" in page
    assert f'name="revision" value="{flow.revision}"' in page, (
        "the next click publishes what is shown now"
    )
    publish_graph(flow.graph.namespace, flow.graph.name, drafts.draft_of(flow.graph).definition)
    assert (
        "Your note was: mine"
        in flow.client.post(
            f"{flow.path}publish/", {"revision": seen, "note": "mine"}
        ).content.decode()
    )
    assert flow.client.post(f"{flow.path}publish/", {"note": "mine"}).status_code == 422, (
        "a form that says nothing of what it is of"
    )


def test_exported_files(flow):
    assert json.loads(flow.get("graph.json").content)["nodes"][0]["id"] == "a"
    assert flow.get("graph.mmd").content.decode().startswith("flowchart")
    assert b"<svg" in flow.get("graph.svg").content
    assert json.loads(flow.get("graph.template.json").content)["nodes"][0]["next_nodes"] == ["b"]
    loose = {
        "nodes": [{"id": "a", "kind": "noop"}],
        "edges": [{"from": "a", "to": "gone"}, {"from": "gone", "to": "a"}],
    }
    flow.post(op="replace", view="json", json=json.dumps(loose))
    for form in ("json", "mmd", "svg", "template.json"):
        assert flow.get(f"graph.{form}").status_code == 200, (
            "a draft with loose ends leaves the house, too"
        )
    assert flow.get("graph.exe").status_code == 404


def test_a_template_that_says_less_than_the_draft_says_so(flow):
    flow.post(op="condition", start="a", end="b", when="outputs.value > 1")
    refused = flow.get("graph.template.json")
    page = refused.content.decode()
    assert refused.status_code == 409
    assert "Content-Disposition" not in refused
    assert "the condition of a → b: outputs.value &gt; 1" in page
    assert 'graph.template.json?anyway">Download the template without them</a>' in page
    known = flow.get("graph.template.json?anyway")
    assert json.loads(known.content)["nodes"][0]["next_nodes"] == ["b"]
    assert json.loads(flow.get("graph.json").content)["edges"][0]["data"] == {
        "when": "outputs.value > 1"
    }, "our own JSON says it all"


def test_what_a_template_has_no_words_for():
    drawn = definition(
        "a>b",
        data={
            "a": {"retry": {"max_retries": 1}, "lease": 9, "unites": None},
            "b": {"timeout": 5, "side_effects": True},
        },
        when={"a>b": "true"},
    )
    drawn |= {"inputs": {"properties": {"day": {}}}, "metadata": {"by": "me"}}
    drawn["settings"] = {
        "failure_policy": "stop",
        "max_failures": 0,
        "retry": {"max_retries": 2},
        "store": {"required_keys": ["k"]},
        "lease": 5,
        "max_steps": None,
    }
    paths = [
        "/edges/0/data/when",
        "/nodes/0/data/retry",
        "/nodes/1/data/timeout",
        "/nodes/1/data/side_effects",
        "/inputs",
    ]
    assert [each.path for each in exosphere_template.inexpressible(drawn)] == [
        *paths,
        "/settings/failure_policy",
        "/settings/max_failures",
    ]
    assert not list(
        exosphere_template.inexpressible(
            definition("a>b") | {"settings": {"failure_policy": "continue"}}
        )
    )
