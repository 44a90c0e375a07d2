"""FlowView's forms without a browser: rights, conflicts, pasted JSON, unknown nodes, history, running, datasets and files."""

import io
import json
import threading
import zipfile
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from graphs.auth.callers import SYSTEM, caller_of_user
from graphs.models import Dataset, Graph, Namespace, NamespaceMembership, RegisteredNode
from graphs.services import drafts, examples, exosphere_template
from graphs.services import publish as publish_module
from runs.actions import run_templates
from runs.engine.answer import answer_state
from runs.engine.start import RunOptions, start_run
from runs.langgraph import db_executor
from runs.models import Run, State
from tests.clusters import until
from tests.conftest import by_node, definition
from tests.races.test_races import at_once

pytestmark = pytest.mark.django_db
HOME = "/admin/flow/"


@pytest.fixture(autouse=True, scope="module")
def _closed():
    """The saver's connections, so that the test database can be dropped."""
    yield
    db_executor.close()


@pytest.fixture
def staff(namespace):
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    return client


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


@pytest.fixture
def flow(staff, publish):
    return Flow(staff, publish("a>b", inputs={"b": {"value": "${{ a.outputs.value }}"}}))


def kind(name):
    return RegisteredNode.objects.get(name=name, namespace__name="builtin").pk


def test_each_view_shows_the_graph(flow):
    for view in ("picture", "list", "json"):
        page = flow.get(f"?view={view}&node=b").content.decode()
        assert "none: it can run" in page or view == "json"
        assert "noop" in page
    assert 'data-node="a"' in flow.get().content.decode()
    assert "a.outputs.value" in flow.get("?node=b").content.decode()
    assert flow.get("?node=nowhere&view=nonsense").status_code == 200
    assert flow.get("?start=a&end=b").content.decode().count("Disconnect") == 1


def test_adding_changing_and_deleting_by_forms(flow):
    flow.post(kind=kind("log"), node="b")
    assert flow.nodes["log"] == {"id": "log", "kind": "log"}
    page = flow.get("?view=list").content.decode()
    assert "log needs the input" in page
    form = {
        "op": "change",
        "node": "log",
        "id": "say",
        "label": "Say it",
        "in-message": "Hello ${{ b.outputs.value }}",
        "x": "30",
        "y": "40",
        "max_retries": "2",
    }
    assert flow.post(**form).status_code == 302
    assert flow.nodes["say"] == {
        "id": "say", "kind": "log", "label": "Say it", "data": {"inputs": {"message": "Hello ${{ b.outputs.value }}"}, "retry": {"max_retries": 2}},
        "position": {"x": 30.0, "y": 40.0},
    }  # fmt: skip
    flow.post(
        **{"op": "change", "node": "say", "id": "say", "ref-message": "${{ a.outputs.value }}"}
    )
    assert flow.nodes["say"]["data"] == {"inputs": {"message": "${{ a.outputs.value }}"}}
    flow.post(op="condition", start="b", end="say", when="outputs.value == 1")
    flow.post(op="duplicate", node="say")
    flow.post(op="delete", node="say")
    assert set(flow.nodes) == {"a", "b", "say_2"}
    flow.post(op="undo")
    assert set(flow.nodes) == {"a", "b", "say", "say_2"}
    edges = drafts.draft_of(flow.graph).definition["edges"]
    assert {"from": "b", "to": "say", "data": {"when": "outputs.value == 1"}} in edges


def test_what_does_not_fit_is_said_beside_its_field_and_kept(flow):
    flow.post(kind=kind("delay"), node="b")
    answer = flow.post(**{"op": "change", "node": "delay", "id": "delay", "in-seconds": "soon"})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "Enter a number" in page
    assert 'value="soon"' in page
    assert "data" not in flow.nodes["delay"]
    for wrong in (
        {"op": "nonsense"},
        {"op": "move", "node": "a", "x": "far", "y": "1"},
        {"op": "connect", "start": "a", "end": "nowhere"},
        {"kind": "999999"},
    ):
        before = flow.revision
        answer = flow.client.post(f"{flow.path}edit", {"revision": before, **wrong}, follow=True)
        assert 'class="error"' in answer.content.decode(), wrong
        assert flow.revision == before


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


def test_a_second_input_of_one_name_is_refused_beside_it(flow):
    flow.post(**settings("day", ""))
    for names, wrong in ((("day", "day", ""), "name-1"), (("day", "x", "x", ""), "name-2")):
        answer = flow.post(**settings(*names))
        assert answer.status_code == 422
        assert list(answer.context["flow"].form.errors) == [wrong]
        assert "There is already an input with this name." in answer.content.decode()
    flow.post(**settings("day", "hour", ""))
    answer = flow.post(**settings("hour", "hour", ""))
    assert list(answer.context["flow"].form.errors) == ["name-0"], (
        "the one that took the other's name"
    )
    assert list(inputs(flow)) == ["day", "hour"]


def test_renaming_an_input_renames_what_refers_to_it(flow):
    flow.post(**settings("day", "hour", ""))
    flow.post(**{"op": "change", "node": "a", "id": "a", "in-value": "${{ run.inputs.day }}"})
    flow.post(
        **{
            "op": "change",
            "node": "b",
            "id": "b",
            "in-value": "at ${{ run.inputs.hour }} of ${{ run.inputs.day }}",
        }
    )
    flow.post(**settings("date", "hour", ""))
    assert list(inputs(flow)) == ["date", "hour"]
    assert flow.nodes["a"]["data"]["inputs"] == {"value": "${{ run.inputs.date }}"}
    assert flow.nodes["b"]["data"]["inputs"] == {
        "value": "at ${{ run.inputs.hour }} of ${{ run.inputs.date }}"
    }
    assert "no input" not in flow.get("problems").content.decode()
    flow.post(**settings("", "hour", ""))
    assert flow.nodes["a"]["data"]["inputs"] == {"value": "${{ run.inputs.date }}"}, (
        "it was deleted, not renamed"
    )
    page = flow.get("problems").content.decode()
    assert page.count("the graph declares no input &#x27;date&#x27;; it has hour") == 2
    flow.post(**settings("minute", "hour", ""))
    assert flow.nodes["b"]["data"]["inputs"] == {
        "value": "at ${{ run.inputs.hour }} of ${{ run.inputs.date }}"
    }, "it moved to another row"
    flow.post(op="undo")
    assert list(inputs(flow)) == ["hour"]


@pytest.mark.parametrize("name", ["a.b", "a}}${{", "{", "a.outputs.value"])
def test_a_new_id_is_one_that_references_can_name(flow, name):
    answer = flow.post(op="change", node="a", id=name)
    assert answer.status_code == 422
    assert "Other nodes could not refer to it" in answer.content.decode()
    assert set(flow.nodes) == {"a", "b"}
    odd = {
        "nodes": [{"id": name, "kind": "noop"}, {"id": "b", "kind": "noop"}],
        "edges": [{"from": name, "to": "b"}],
    }
    flow.post(op="replace", view="json", json=json.dumps(odd))
    assert (
        "the nodes after it can&#x27;t refer to its outputs"
        in flow.get("problems").content.decode()
    )
    assert flow.post(op="change", node=name, id=name, label="As it was").status_code == 302
    assert flow.nodes[name]["label"] == "As it was"
    flow.post(op="change", node=name, id="x <y>")
    assert set(flow.nodes) == {"x <y>", "b"}


def test_two_people_who_change_the_same_choose(flow):
    form = {"op": "change", "node": "a", "id": "a", "view": "list"}
    flow.post(**form, label="Ann's")
    second = flow.client.post(f"{flow.path}edit", {**form, "label": "Ben's", "revision": "1-0"})
    page = second.content.decode()
    assert second.status_code == 412
    assert "Ann&#x27;s" in page
    assert "Ben&#x27;s" in page
    swapped = flow.client.post(
        f"{flow.path}edit",
        {**form, "label": "Ben's", "revision": "1-0"},
        headers={"HX-Request": "true"},
    )
    assert swapped["HX-Retarget"] == "#fl-conflict"
    copied = flow.client.post(
        f"{flow.path}copy", {**form, "label": "Ben's", "revision": "1-0"}, follow=True
    )
    assert f"This is {flow.graph.name}-copy" in copied.content.decode()
    copy = Graph.objects.exclude(pk=flow.graph.pk).get()
    assert drafts.draft_of(copy).definition["nodes"][0]["label"] == "Ben's"
    assert flow.nodes["a"]["label"] == "Ann's"
    flow.client.post(
        f"{flow.path}edit",
        {**form, "label": "Ben's", "revision": "1-0", "choose": "mine", "seen": 1},
    )
    assert flow.nodes["a"]["label"] == "Ben's"


SCRIPT = {"headers": {"HX-Request": "true"}}


@pytest.mark.parametrize("options", [SCRIPT, {}], ids=["script", "plain"])
def test_a_form_that_comes_back_is_still_a_change_of_what_it_showed(flow, options):
    """Ann's form was shown before Ben's change; whatever it answers, her next save must not take his change away."""
    flow.post(kind=kind("delay"), node="b")
    ann = str(flow.revision)
    form = {
        "op": "change",
        "node": "delay",
        "id": "delay",
        "view": "picture",
        "label": "",
        "revision": ann,
    }
    flow.post(**{**form, "label": "Ben's", "revision": ann})
    answers = [
        flow.client.post(
            f"{flow.path}edit", {**form, "in-seconds": "soon"}, **options
        ),  # doesn't fit
        flow.client.post(
            f"{flow.path}edit",
            {
                "op": "connect",
                "start": "a",
                "end": "a",
                "view": "picture",
                "node": "delay",
                "revision": ann,
            },
            **SCRIPT,
        ),  # refused
    ]
    for answer in answers:
        page = answer.content.decode()
        assert f'name="revision" value="{ann}"' in page
        assert f'name="revision" value="{flow.revision}"' not in page
    flow.post(**{**form, "in-seconds": "3"})
    assert flow.nodes["delay"] == {
        "id": "delay",
        "kind": "delay",
        "label": "Ben's",
        "data": {"inputs": {"seconds": 3}},
    }


def test_a_save_that_changes_nothing_shows_what_others_changed(flow):
    flow.post(op="change", node="a", id="a", label="Ben's")
    answer = flow.client.post(
        f"{flow.path}edit",
        {"op": "change", "node": "a", "id": "a", "label": "", "view": "picture", "revision": "1-0"},
        **SCRIPT,
    )
    page = answer.content.decode()
    assert 'id="fl-inspector"' in page
    assert "Ben&#x27;s" in page
    assert 'value="1-1"' in page


def test_choosing_a_node_brings_the_picture_when_the_draft_is_another(flow):
    assert 'id="fl-picture"' not in flow.get("?node=a&shown=1-0", **SCRIPT).content.decode()
    flow.post(op="delete", node="b")
    page = flow.get("?node=a&shown=1-0", **SCRIPT).content.decode()
    assert 'id="fl-picture"' in page
    assert 'data-node="b"' not in page


@pytest.mark.parametrize("options", [SCRIPT, {}], ids=["script", "plain"])
def test_a_page_that_is_too_old_gives_back_what_was_written(flow, options, monkeypatch):
    monkeypatch.setattr(drafts, "KEPT", 3)
    old = {
        "op": "change",
        "node": "a",
        "id": "a",
        "label": "written long ago",
        "view": "list",
        "revision": "1-1",
    }
    for at in range(6):
        flow.post(op="move", node="b", x=str(at), y="0")
    answer = flow.client.post(f"{flow.path}edit", old, **options)
    page = answer.content.decode()
    assert "written long ago" in page
    assert answer.get("HX-Retarget") == ("#fl-conflict" if options else None)
    assert "label" not in flow.nodes["a"]
    assert f'name="revision" value="{flow.revision}"' in page
    flow.post(**{**old, "revision": str(flow.revision)})
    assert flow.nodes["a"]["label"] == "written long ago"


def test_who_is_logged_out_is_told_so_and_loses_nothing(flow):
    flow.client.logout()
    answer = flow.client.post(
        f"{flow.path}edit",
        {"op": "change", "node": "a", "id": "a", "label": "x", "revision": "1-0"},
        **SCRIPT,
    )
    assert (answer.status_code, answer.get("HX-Redirect")) == (401, None)
    here = {"HX-Request": "true", "HX-Current-URL": f"http://testserver{flow.path}?view=list"}
    assert flow.get("problems", headers=here)["HX-Redirect"] == f"/admin/login/?next={flow.path}"
    assert flow.get().status_code == 302


def test_a_form_shows_what_others_changed_before_it_sends_it_back(flow):
    script = {"headers": {"HX-Request": "true"}}
    form = {"op": "change", "node": "a", "id": "a", "view": "picture"}
    alone = flow.client.post(
        f"{flow.path}edit", {**form, "label": "Ann's", "revision": "1-0"}, **script
    ).content.decode()
    assert "fl-inspector" not in alone.replace("#fl-inspector", ""), "she types on"
    flow.post(op="move", node="b", x="1", y="1")
    merged = flow.client.post(
        f"{flow.path}edit", {**form, "label": "Ann's own", "revision": "1-1"}, **script
    ).content.decode()
    assert 'id="fl-inspector"' in merged
    assert 'value="1-3"' in merged, "and the newest revision"


def test_pasted_json_is_checked_and_changes_nothing_until_saved(flow):
    pasted = {
        "nodes": [{"id": "x", "kind": "no.such", "data": {"inputs": {"kept": [1]}, "odd": True}}],
        "edges": [{"from": "x", "to": "y"}],
    }
    page = flow.post("check", json=json.dumps(pasted)).content.decode()
    assert "no node &#x27;no.such&#x27; is registered" in page
    assert "&#x27;y&#x27; is no node" in page
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
    publish_module.publish(
        flow.graph.namespace, flow.graph.name, drafts.draft_of(flow.graph).definition
    )
    assert (
        "Your note was: mine"
        in flow.client.post(
            f"{flow.path}publish/", {"revision": seen, "note": "mine"}
        ).content.decode()
    )
    assert flow.client.post(f"{flow.path}publish/", {"note": "mine"}).status_code == 422, (
        "a form that says nothing of what it is of"
    )


def test_files_that_leave_the_house(flow):
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
    assert [each.path for each in exosphere_template.unsaid(drawn)] == [
        *paths,
        "/settings/failure_policy",
        "/settings/max_failures",
    ]
    assert not list(
        exosphere_template.unsaid(definition("a>b") | {"settings": {"failure_policy": "continue"}})
    )


def test_a_double_click_makes_one_run_with_what_the_form_says(flow, namespace, drain):
    dataset = Dataset.objects.create(namespace=namespace, name="data")
    other = Dataset.objects.create(namespace=Namespace.objects.create(name="beta"), name="theirs")
    flow.post(
        **{
            "op": "settings",
            "name-0": "day",
            "type-0": "string",
            "default-0": "Monday",
            "needed-0": "on",
            "failure_policy": "continue",
        }
    )
    page = flow.get("run/").content.decode()
    assert "Runs <strong>the draft</strong>, which becomes version 2." in page
    run_id = page.partition('name="run_id" value="')[2].partition('"')[0]
    form = {
        "run_id": run_id,
        "version": "draft",
        "input-day": "Friday",
        "dataset": dataset.pk,
        "revision": flow.revision,
    }
    assert flow.client.post(f"{flow.path}run/", {**form, "dataset": other.pk}).status_code == 422
    assert flow.client.post(f"{flow.path}run/", {**form, "input-day": ""}).status_code == 422
    first, second = (flow.client.post(f"{flow.path}run/", form) for _ in range(2))
    run = Run.objects.get()
    assert first["Location"] == second["Location"] == f"/admin/run-manager/run/{run.pk}/"
    assert (run.version.number, run.initial_data, run.dataset, run.trigger) == (
        2,
        {"day": "Friday"},
        dataset,
        "admin",
    )
    drain()
    run.refresh_from_db()
    assert run.status == "completed"


@pytest.mark.django_db(transaction=True)
@pytest.mark.races
def test_two_clicks_at_the_same_moment_make_one_run(flow):
    flow.post(op="change", node="a", id="a", label="new")
    form = {"run_id": "once", "version": "draft", "inputs": "{}", "revision": str(flow.revision)}
    clients = [Client(), Client(), Client()]
    for client in clients:
        client.force_login(User.objects.get(username="ann"))
    answers = at_once(
        *(lambda client=client: client.post(f"{flow.path}run/", form) for client in clients)
    )
    run = Run.objects.get()
    assert [answer["Location"] for answer in answers] == [f"/admin/run-manager/run/{run.pk}/"] * 3
    assert run.version.number == 2


def test_a_template_fills_the_form(flow, drain):
    run = start_run(flow.graph)
    template = run_templates.from_run(run, "nightly", SYSTEM)
    assert (
        f'<option value="{template.pk}" selected>nightly</option>'
        in flow.get(f"run/?template={template.pk}").content.decode()
    )
    flow.client.post(
        f"{flow.path}run/",
        {"run_id": "from-template", "version": "1", "template": template.pk, "inputs": "{}"},
    )
    assert Run.objects.get(run_id="from-template").template == template


def test_a_draft_with_errors_does_not_run_but_the_published_version_does(flow):
    flow.post(kind=kind("log"), node="b")
    page = flow.get("run/").content.decode()
    assert "The draft has errors, so it can't run" in page
    refused = flow.client.post(
        f"{flow.path}run/",
        {"run_id": "x", "version": "draft", "inputs": "{}", "revision": flow.revision},
    )
    assert refused.status_code == 422
    flow.client.post(f"{flow.path}run/", {"run_id": "y", "version": "1", "inputs": "{}"})
    assert [run.run_id for run in Run.objects.all()] == ["y"]


def fields(page):
    """What the form of a run sends of itself."""
    return {
        "run_id": page.context["run_id"],
        "version": page.context["subject"].key,
        "revision": str(page.context["flow"].draft.base),
        "inputs": "{}",
    }


def test_the_version_that_the_page_showed_is_what_runs(flow, publish):
    flow.post(op="change", node="a", id="a", label="drawn")
    page = flow.get("run/?version=1")
    assert "Runs <strong>version 1</strong>." in page.content.decode()
    assert '<a href="?version=draft">Run the draft instead</a>' in page.content.decode()
    publish("a>c")
    flow.client.post(f"{flow.path}run/", fields(page))
    assert Run.objects.get().version.number == 1, "though version 2 was published meanwhile"
    page = flow.get("run/?version=1").content.decode()
    assert "It is not the current version." in page
    assert "Run the published version 2 instead" in page
    for odd in ("9", "published", "", "draft "):
        answer = flow.client.post(
            f"{flow.path}run/", {**fields(flow.get("run/")), "run_id": "odd", "version": odd}
        )
        assert answer.status_code == 409
        assert "Check what would run now" in answer.content.decode()
    assert not Run.objects.filter(run_id="odd").exists()


def test_the_draft_that_the_page_showed_is_what_runs(flow):
    flow.post(op="change", node="a", id="a", label="drawn")
    shown = fields(flow.get("run/"))
    flow.post(op="change", node="a", id="a", label="theirs")
    answer = flow.client.post(f"{flow.path}run/", shown)
    assert answer.status_code == 409
    assert "changed the draft meanwhile" in answer.content.decode()
    flow.post(op="change", node="a", id="a", label="")
    assert "Runs <strong>version 1</strong>." in flow.get("run/?version=draft").content.decode(), (
        "the draft is as published again"
    )
    assert flow.client.post(f"{flow.path}run/", shown).status_code == 409
    assert not Run.objects.exists()


def test_what_a_run_is_asked_for_is_what_its_definition_declares(flow, namespace):
    dataset = Dataset.objects.create(namespace=namespace, name="data")
    flow.post(**settings("day", "", **{"needed-0": "on"}))
    flow.post(kind=kind("dataset.read"), node="b")
    flow.post(op="change", node="read", id="read", **{"in-table": "orders"})
    drawn, published = flow.get("run/"), flow.get("run/?version=1")
    assert 'name="input-day"' in drawn.content.decode()
    assert 'name="input-day"' not in published.content.decode()
    assert (
        drawn.context["form"].fields["dataset"].required,
        published.context["form"].fields["dataset"].required,
    ) == (True, False)
    assert flow.client.post(f"{flow.path}run/", fields(drawn)).status_code == 422
    assert flow.client.post(f"{flow.path}run/", fields(published)).status_code == 302
    flow.client.post(
        f"{flow.path}run/", {**fields(drawn), "input-day": "Friday", "dataset": dataset.pk}
    )
    assert [run.version.number for run in Run.objects.order_by("pk")] == [1, 2]


def test_the_form_is_filled_with_what_the_users_last_run_was_given(flow, namespace):
    declared = {
        "type": "object",
        "properties": {
            "day": {"type": "string", "default": "Monday", "maxLength": 9},
            "api_token": {"type": "string"},
        },
    }
    publish_module.publish(
        namespace,
        flow.graph.name,
        definition("a", inputs={"a": {"value": "${{ run.inputs.day }}"}}) | {"inputs": declared},
    )
    assert 'value="Monday"' in flow.get("run/").content.decode()
    ann, ben = User.objects.get(), User.objects.create_user("ben", is_staff=True)
    own = start_run(
        flow.graph,
        RunOptions(inputs={"day": "Friday", "api_token": "s3cret", "more": 1}),
        caller=caller_of_user(ann, "page"),
    )
    NamespaceMembership.objects.create(namespace=namespace, user=ben, role="operator")
    start_run(flow.graph, RunOptions(inputs={"day": "Sunday"}), caller=caller_of_user(ben, "page"))
    page = flow.get("run/")
    assert 'value="Friday"' in page.content.decode()
    assert "s3cret" not in page.content.decode()
    sent = {
        **fields(page),
        "last": page.context["last"].pk,
        "input-day": "Friday",
        "input-api_token": "•••",
    }
    start_run(
        flow.graph,
        RunOptions(inputs={"day": "Tuesday", "api_token": "other"}),
        caller=caller_of_user(ann, "page"),
    )
    flow.client.post(f"{flow.path}run/", sent)
    assert Run.objects.latest("pk").initial_data == {"day": "Friday", "api_token": "s3cret"}, (
        "the secret of the run that the form was filled with"
    )
    flow.client.post(
        f"{flow.path}run/", {**sent, "run_id": "cleared", "input-day": "", "input-api_token": ""}
    )
    assert Run.objects.latest("pk").initial_data == {"day": "Monday"}
    template = run_templates.from_run(own, "friday", SYSTEM)
    template.inputs = {"day": "Saturday"}
    template.save()
    assert 'value="Saturday"' in flow.get(f"run/?template={template.pk}").content.decode()
    flow.client.force_login(ben)
    page = flow.get("run/")
    assert 'value="Sunday"' in page.content.decode()
    stolen = {**fields(page), "last": own.pk, "input-day": "x", "input-api_token": "•••"}
    flow.client.post(f"{flow.path}run/", stolen)
    assert Run.objects.latest("pk").initial_data == {"day": "x", "api_token": "•••"}, (
        "others' runs fill nothing"
    )


def test_the_last_runs_inputs_are_not_for_who_may_not_see_payloads(publish):
    graph = publish("a", inputs={"a": {"value": "${{ run.inputs.word }}"}})
    user = User.objects.create_user("starter", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=["view_run", "add_run"]))
    user = User.objects.get(pk=user.pk)
    start_run(
        graph, RunOptions(inputs={"word": "HIDDEN-WORD"}), caller=caller_of_user(user, "page")
    )
    client = Client()
    client.force_login(user)
    assert "HIDDEN-WORD" not in Flow(client, graph).get("run/").content.decode()
    user.user_permissions.add(Permission.objects.get(codename="view_payload"))
    page = Flow(client, graph).get("run/").content.decode()
    assert "HIDDEN-WORD" in page
    assert '<details class="rm-choice" open>' in page, "what is sent is seen"


def test_what_is_required_says_so_before_the_form_is_sent(flow):
    flow.post(**settings("day", "hour", "", **{"needed-0": "on"}))
    flow.post(kind=kind("dataset.read"), node="b")
    flow.post(op="change", node="read", id="read", **{"in-table": "orders"})
    page = flow.get("run/").content.decode()
    assert "Fields with a * are required." in page
    assert 'for="id_input-day">Day *</label>' in page
    assert 'for="id_dataset">Dataset *</label>' in page
    assert "Hour:</label>" in page
    for name, needed in (
        ("input-day", True),
        ("input-hour", False),
        ("dataset", True),
        ("name", False),
    ):
        tag = page.partition(f'name="{name}"')[2].partition(">")[0]
        assert (" required" in tag) == needed, name


def test_the_dataset_that_has_the_tables_is_chosen(flow, namespace):
    def loaded(name, *tables):
        dataset = Dataset.objects.create(namespace=namespace, name=name)
        for table in tables:
            dataset.tables.create(name=table, file=f"{name}/{table}", format="csv")
        return dataset

    def chosen(more="run/"):
        return flow.get(more).context["form"].initial["dataset"]

    def reading(*tables):
        nodes = [
            {"id": f"n{at}", "kind": "dataset.read", "data": {"inputs": {"table": table}}}
            for at, table in enumerate(tables)
        ]
        flow.post(op="replace", view="json", json=json.dumps({"nodes": nodes, "edges": []}))

    reading("orders", "customers", "orders")
    assert chosen() is None
    both, newer = (
        loaded("both", "customers", "orders"),
        loaded("newer", "orders", "customers", "more"),
    )
    part = loaded("part", "orders")
    assert chosen() == newer.pk, "the newest that has both"
    assert chosen("run/?version=1") is None, "version 1 reads none"
    reading("orders")
    assert chosen() == part.pk
    reading("orders", "${{ run.inputs.table }}")
    assert chosen() is None, "nobody knows which"
    reading("more", "${{ run.inputs.table }}")
    assert chosen() == newer.pk, "there is no other"
    start_run(flow.graph, dataset=both)
    assert chosen() == both.pk, "it was used before"


def test_rights(publish, namespace):
    graph = publish("a>b")
    theirs = publish_module.publish(
        Namespace.objects.create(name="beta"), "theirs", definition("a")
    )
    user = User.objects.create_user("viewer", is_staff=True)
    member = NamespaceMembership.objects.create(namespace=namespace, user=user, role="reader")
    client = Client()
    client.force_login(user)
    flow, hidden = Flow(client, graph), Flow(client, theirs)
    page = flow.get("?node=a").content.decode()
    assert "fl-tools" not in page
    assert client.get(HOME).status_code == 200
    assert "theirs" not in client.get(HOME).content.decode()
    assert flow.post(op="arrange").status_code == 403
    assert flow.get("publish/").status_code == 403
    assert hidden.get().status_code == 404
    member.role = "operator"
    member.save()
    assert flow.post(op="duplicate", node="a").status_code == 302
    assert set(flow.nodes) == {"a", "b", "a_2"}
    for more in ("edit", "check", "copy", "publish/", "run/", "history/1/restore"):
        assert hidden.post(more, op="duplicate", node="a").status_code == 404, more
    user.user_permissions.add(Permission.objects.get(codename="view_run"))
    hidden.client.force_login(User.objects.get(pk=user.pk))
    assert hidden.get().status_code == 200, "who may view runs everywhere sees graphs everywhere"
    assert hidden.get("run/").status_code == hidden.get("publish/").status_code == 403
    hidden.post(op="duplicate", node="a")
    assert drafts.draft_of(theirs).revision == 0
    assert (
        client.post(f"{HOME}new/", {"name": "x", "namespace": theirs.namespace_id}).status_code
        == 422
    )
    assert Client().get(flow.path).status_code == 302


def test_the_polling_example_asks_until_it_is_ready(staff, namespace, drain, settings):
    settings.ALLOW_PRIVATE_ADDRESSES = True
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = json.dumps({"state": "ready" if len(asked) > 2 else "busy"}).encode()
            self.send_response(500 if len(asked) == 1 else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        graph = examples.put("api-polling", namespace, SYSTEM)
        run = start_run(
            graph,
            RunOptions(
                inputs={
                    "url": f"http://127.0.0.1:{server.server_port}/",
                    "until": 'body.state == "ready"',
                }
            ),
        )
        for _ in range(5):
            State.objects.filter(run=run, status="CREATED").update(
                due_at=timezone.now() - timedelta(minutes=1)
            )
            drain()
    finally:
        server.shutdown()
        server.server_close()
    run.refresh_from_db()
    assert (run.status, len(asked)) == ("completed", 3), (
        "a failure that was retried, a busy answer, and the ready one"
    )
    assert run.retried_count == 1


@pytest.mark.django_db(transaction=True)
def test_the_langgraph_example_asks_on_the_runs_page_and_its_thread_is_a_run(
    staff, namespace, drain
):
    staff.post(f"{HOME}examples/langgraph-thread/", {"namespace": namespace.pk, "run_id": "one"})
    drain()
    run = Run.objects.get(run_id="one")
    waiting = State.objects.get(run=run, identifier="assistant")
    assert "Send this reply?" in waiting.waiting_for["question"]
    thread = Run.objects.get(run_id__startswith="one-assistant-")
    assert (thread.status, thread.graph) == ("paused", None)
    answer_state(run, waiting.pk, {"send": True, "text": "On its way"}, SYSTEM)
    drain()
    run.refresh_from_db()
    thread.refresh_from_db()
    assert (run.status, thread.status) == ("completed", "completed")
    assert by_node(run) == {"assistant": ["SUCCESS"], "sent": ["SUCCESS"]}
    assert run.logs.filter(message="Sent: On its way").exists()


def test_descriptions_of_inputs_are_text(flow):
    inputs = {
        "type": "object",
        "properties": {
            "x": {"type": "string", "description": '<b hx-post="/evil" hx-trigger="load">'}
        },
    }
    flow.post(
        op="replace",
        view="json",
        json=json.dumps({"nodes": [{"id": "a", "kind": "noop"}], "edges": [], "inputs": inputs}),
    )
    page = flow.get("run/").content.decode()
    assert "&lt;b hx-post" in page
    assert "<b hx-post" not in page


def test_a_templates_inputs_are_not_for_everybody(publish, namespace):
    graph = publish("a", inputs={"a": {"value": "${{ run.inputs.word }}"}})
    template = run_templates.from_run(
        start_run(graph, RunOptions(inputs={"word": "SECRET-WORD"})), "t", SYSTEM
    )
    user = User.objects.create_user("starter", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=["view_run", "add_run"]))
    client = Client()
    client.force_login(user)
    page = Flow(client, graph).get(f"run/?template={template.pk}")
    assert page.status_code == 200
    assert "SECRET-WORD" not in page.content.decode()
    client.post(
        page.request["PATH_INFO"],
        {"run_id": "unseen", "version": "1", "template": template.pk, "inputs": "{}"},
    )
    assert Run.objects.get(run_id="unseen").initial_data == {"word": "SECRET-WORD"}, (
        "but he may start it"
    )


@pytest.mark.parametrize("number", ["²", "٣", "-1", "9" * 5000, "x", "", "1-²"])
def test_what_is_no_number_is_no_500(flow, namespace, number):
    for more in (
        f"?view={number}",
        f"history/?version={number}",
        f"run/?template={number}",
        f"run/?version={number}",
        f"history/?page={number}",
    ):
        assert flow.get(more).status_code == 200, more
    for values in (
        {"op": "arrange", "revision": number},
        {"kind": number},
        {"op": "arrange", "seen": number, "choose": "mine"},
    ):
        assert flow.post(**values).status_code == 302, values
    for more in ("publish/", "copy", "run/"):
        assert flow.client.post(
            f"{flow.path}{more}",
            {"revision": number, "version": "draft", "op": "arrange", "template": number},
        ).status_code in (
            302,
            409,
            422,
        ), more
    assert flow.client.post(f"{HOME}examples/fan-out/", {"namespace": number}).status_code == 302


def test_odd_schemas_of_workers_are_no_500(flow, namespace):
    recursive = {
        "properties": {"l": {"$ref": "#/$defs/A"}},
        "required": ["l"],
        "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}},
    }
    for at, schema in enumerate(
        [
            recursive,
            {"properties": {"l": {"type": "array", "items": True}}},
            {"properties": {"l": True, "m": {"anyOf": True}}},
            {"properties": {}},
            {},
        ]
    ):
        RegisteredNode.objects.create(
            namespace=namespace,
            name=f"odd{at}",
            executor="worker",
            inputs_schema=schema,
            outputs_schema=schema,
        )
        flow.post(kind=RegisteredNode.objects.get(name=f"odd{at}").pk, node="b")
        assert flow.get(f"?node=odd{at}").status_code == 200
        assert flow.post(op="connect", start="a", end=f"odd{at}").status_code == 302
        assert flow.post(op="change", node=f"odd{at}", id=f"odd{at}", label="x").status_code == 302
        assert flow.nodes[f"odd{at}"]["label"] == "x"


def test_one_becomes_true(flow):
    for text, value in (
        ("1", 1),
        ("true", True),
        ('{"a": [0]}', {"a": [0]}),
        ('{"a": [false]}', {"a": [False]}),
        ("one", "one"),
        ('"1"', "1"),
    ):
        flow.post(**{"op": "change", "node": "a", "id": "a", "in-value": text})
        found = flow.nodes["a"]["data"]["inputs"]["value"]
        assert json.dumps(found) == json.dumps(value)


def test_what_is_written_beats_the_reference_that_was_chosen_before(flow):
    script = {"headers": {"HX-Request": "true"}}
    form = {
        "op": "change",
        "node": "b",
        "id": "b",
        "view": "picture",
        "in-value": "by hand",
        "ref-value": "${{ a.outputs.value }}",
        "strategy": "ALL_SUCCESS",
    }
    page = flow.client.post(
        f"{flow.path}edit", {**form, "revision": flow.revision}, **script
    ).content.decode()
    assert flow.nodes["b"]["data"]["inputs"] == {"value": "by hand"}
    assert 'id="fl-inspector"' in page, "so that the form shows it"


@pytest.mark.parametrize("name", ["approval", "fan-out", "flight-delays"])
def test_examples_run(name, staff, namespace, drain):
    answer = staff.post(f"{HOME}examples/{name}/", {"namespace": namespace.pk, "run_id": "one"})
    run = Run.objects.get()
    assert answer["Location"].endswith(f"/run/{run.pk}/")
    drain()
    run.refresh_from_db()
    if name == "approval":
        assert by_node(run)["approve"] == ["CREATED"]
        assert run.initial_data == {"text": "We open on Monday"}
    elif name == "flight-delays":
        assert run.status == "completed"
        assert run.artifacts.filter(name="flight_delays.zip").exists()
    else:

        def ended():
            State.objects.filter(run=run, status="CREATED", due_at__isnull=False).update(
                due_at=timezone.now() - timedelta(minutes=1)
            )
            drain()
            return Run.objects.get(pk=run.pk).ended

        until(ended)
        assert by_node(run)["confirm"] == ["SUCCESS"] * 4
        assert by_node(run)["report"] == ["SUCCESS"], "one report on all"
    staff.post(f"{HOME}examples/{name}/", {"namespace": namespace.pk, "open": "1"})
    assert Graph.objects.count() == 1
    assert (
        staff.post(
            f"{HOME}examples/nonsense/", {"namespace": namespace.pk}, follow=True
        ).status_code
        == 200
    )
    assert set(examples.EXAMPLES) >= {name}


def test_datasets_are_uploaded_looked_into_and_deleted(staff, namespace):
    path = f"{HOME}datasets/"
    rows = "".join(f"{at},name {at},{at / 4}\n" for at in range(120))
    file = SimpleUploadedFile("things.csv", f"id,name,price\n{rows}".encode())
    answer = staff.post(
        path, {"namespace": namespace.pk, "name": "stuff", "encoding": "utf-8", "upload": file}
    )
    dataset = Dataset.objects.get()
    assert answer["Location"] == f"{path}{dataset.pk}/"
    page = staff.get(answer["Location"]).content.decode()
    assert 'price <span class="rm-quiet">number</span>' in page
    assert "name 49" in page
    assert "name 50" not in page
    assert "name 119" in staff.get(f"{path}{dataset.pk}/?table=things&page=3").content.decode()
    assert "fewer pages" in staff.get(f"{path}{dataset.pk}/?table=things&page=9").content.decode()
    broken = SimpleUploadedFile("bad.csv", b"a,b\n1\n")
    answer = staff.post(
        path, {"namespace": namespace.pk, "name": "bad", "encoding": "utf-8", "upload": broken}
    )
    assert answer.status_code == 422
    assert "line 2" in answer.content.decode()
    assert "stuff" in staff.get(path).content.decode()
    staff.post(f"{path}{dataset.pk}/delete")
    assert not Dataset.objects.exists()


def test_datasets_and_files_are_for_their_namespace_only(staff, publish, namespace, drain):
    from graphs.services import datasets

    dataset = datasets.load(namespace, "d", [datasets.Source("t.csv", io.BytesIO(b"a\n1\n"))])
    run = start_run(publish("read>out", kinds={"read": "dataset.read", "out": "table.export"}, inputs={
        "read": {"table": "t"}, "out": {"table": "${{ read.outputs.table }}", "name": "t.csv"},
    }), dataset=dataset)  # fmt: skip
    drain()
    user, beta = (
        User.objects.create_user("stranger", is_staff=True),
        Namespace.objects.create(name="beta"),
    )
    NamespaceMembership.objects.create(namespace=beta, user=user, role="manager")
    client = Client()
    client.force_login(user)
    home, file = (
        f"{HOME}datasets/",
        f"/admin/run-manager/run/{run.pk}/files/{run.artifacts.get().pk}/",
    )
    for path in (f"{home}{dataset.pk}/", file, f"{file}?entry=t.csv"):
        assert (client.get(path).status_code, staff.get(path).status_code) == (404, 200), path
    assert client.post(f"{home}{dataset.pk}/delete").status_code == 404
    assert "shop" not in client.get(home).content.decode()
    assert (
        client.post(
            home,
            {
                "namespace": namespace.pk,
                "name": "x",
                "upload": SimpleUploadedFile("x.csv", b"a\n1\n"),
            },
        ).status_code
        == 422
    )
    assert Dataset.objects.get() == dataset
    NamespaceMembership.objects.create(namespace=namespace, user=user, role="viewer")
    assert client.get(f"/admin/run-manager/run/{run.pk}/").status_code == 200
    for path in (f"{home}{dataset.pk}/", file):
        assert client.get(path).status_code in (403, 404), "contents are for who may see payloads"
    refused = client.post(f"{home}{dataset.pk}/delete", follow=True)
    assert refused.status_code in (403, 404) or 'class="error"' in refused.content.decode()
    assert Dataset.objects.get() == dataset


def test_files_of_runs_are_looked_into(staff, publish, namespace, drain):
    from graphs.services import datasets

    dataset = datasets.load(
        namespace, "d", [datasets.Source("t.csv", io.BytesIO(b"a,b\n1,x\n2,\n"))]
    )
    graph = publish(
        "read>out>pack", kinds={"read": "dataset.read", "out": "table.export", "pack": "zip"},
        inputs={"read": {"table": "t"}, "out": {"table": "${{ read.outputs.table }}", "name": "t.csv"}, "pack": {"files": ["${{ out.outputs.file }}"]}},
    )  # fmt: skip
    run = start_run(graph, dataset=dataset)
    drain()
    files = {file.name: file for file in run.artifacts.all()}
    path = f"/admin/run-manager/run/{run.pk}/files/"
    assert "<td>x</td>" in staff.get(f"{path}{files['t.csv'].pk}/").content.decode()
    zipped = staff.get(f"{path}{files['export.zip'].pk}/").content.decode()
    assert "?entry=t.csv" in zipped
    assert (
        "<td>x</td>" in staff.get(f"{path}{files['export.zip'].pk}/?entry=t.csv").content.decode()
    )
    assert (
        "There is no"
        in staff.get(f"{path}{files['export.zip'].pk}/?entry=../../etc/passwd").content.decode()
    )
    with zipfile.ZipFile(
        io.BytesIO(
            b"".join(
                staff.get(
                    f"/runs/{run.run_id}/artifacts/{files['export.zip'].pk}"
                ).streaming_content
            )
        )
    ) as archive:
        assert archive.namelist() == ["t.csv"]


def test_a_page_of_a_large_graph_costs_a_constant_number_of_queries(
    staff, publish, django_assert_max_num_queries
):
    large = Flow(staff, publish(" ".join(f"n{at}>n{at + 1}" for at in range(300))))
    large.get()
    with django_assert_max_num_queries(22):
        large.get()
