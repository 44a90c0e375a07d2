"""Drafts in the database: one writer at a time, merging, undoing, publishing; and the API for them."""

import pytest

from graphs.auth.callers import SYSTEM
from graphs.definition import edits, errors
from graphs.models import Graph
from graphs.models.draft import DraftChange
from graphs.services import drafts, undo
from graphs.services.publish import publish_graph
from tests.support.api_client import ApiClient
from tests.support.concurrency import at_once
from tests.support.definitions import definition

pytestmark = pytest.mark.django_db


def change(graph, revision, edit, choose="", seen=None):
    """At a revision of version 1."""
    return drafts.apply(graph, drafts.Base(1, revision), edit, SYSTEM, choose, seen).draft


def label(name, text):
    return lambda was: edits.change(was, name, {**edits.node_of(was, name), "label": text})


def labels(graph):
    return {node["id"]: node.get("label") for node in drafts.draft_of(graph).definition["nodes"]}


def test_two_people_who_change_different_things_lose_nothing(publish):
    graph = publish("a>b")
    change(graph, 0, label("a", "Ann's"))
    change(graph, 0, label("b", "Ben's"))
    assert labels(graph) == {"a": "Ann's", "b": "Ben's"}
    assert graph.draft_changes.first().message.endswith("(merged)")


def test_two_people_who_change_the_same_are_asked(publish):
    graph = publish("a>b")
    change(graph, 0, label("a", "Ann's"))
    with pytest.raises(drafts.Conflicting, match="a › label") as raised:
        change(graph, 0, label("a", "Ben's"))
    assert [(each.base, each.mine, each.theirs) for each in raised.value.conflicts] == [
        (None, "Ben's", "Ann's")
    ]
    assert labels(graph)["a"] == "Ann's", "nothing was saved"
    change(graph, 0, label("a", "Ben's"), "theirs", 1)
    assert labels(graph)["a"] == "Ann's"
    change(graph, 1, label("a", "Ann's, again"))
    with pytest.raises(drafts.Conflicting, match="a › label"):
        change(graph, 0, label("a", "Ben's"), "mine", 1)
    change(graph, 0, label("a", "Ben's"), "mine", 2)
    assert labels(graph)["a"] == "Ben's", "of what was seen"


def message(name, text):
    return lambda was: edits.change(
        was, name, {**edits.node_of(was, name), "data": {"inputs": {"message": text}}}
    )


def renamed(name, new):
    return lambda was: edits.change(was, name, {**edits.node_of(was, name), "id": new})


@pytest.mark.parametrize(("theirs", "mine"), [
    (message("b", "x"), lambda was: edits.delete(was, "b")), (lambda was: edits.delete(was, "b"), message("b", "x")),
    (renamed("b", "x"), renamed("b", "y")), (renamed("b", "x"), lambda was: edits.delete(was, "b")),
    (lambda was: edits.delete(was, "b"), renamed("b", "x")),
])  # fmt: skip
def test_what_one_deletes_and_the_other_changes_is_asked_about(publish, theirs, mine):
    graph = publish("a>b")
    change(graph, 0, theirs)
    with pytest.raises(drafts.Conflicting):
        change(graph, 0, mine)


@pytest.mark.parametrize(("theirs", "mine", "choose", "left"), [
    (renamed("b", "x"), renamed("b", "y"), "mine", "a>y>c"), (renamed("b", "x"), renamed("b", "y"), "theirs", "a>x>c"),
    (renamed("b", "x"), lambda was: edits.delete(was, "b"), "mine", "a c"), (renamed("b", "x"), lambda was: edits.delete(was, "b"), "theirs", "a>x>c"),
    (lambda was: edits.delete(was, "b"), renamed("b", "x"), "mine", "a>x>c"), (lambda was: edits.delete(was, "b"), renamed("b", "x"), "theirs", "a c"),
])  # fmt: skip
def test_two_names_of_a_node_never_make_two_nodes(publish, theirs, mine, choose, left):
    graph = publish("a>b>c")
    change(graph, 0, theirs)
    change(graph, 0, mine, choose, 1)
    found, wanted = drafts.draft_of(graph).definition, definition(left)
    assert {node["id"] for node in found["nodes"]} == {node["id"] for node in wanted["nodes"]}
    assert {(edge["from"], edge["to"]) for edge in found["edges"]} == {
        (edge["from"], edge["to"]) for edge in wanted["edges"]
    }


def test_what_is_done_to_a_node_goes_with_its_new_name(publish):
    graph = publish("a>b>c", inputs={"c": {"value": "${{ b.outputs.value }}"}})
    change(graph, 0, renamed("b", "x"))
    change(graph, 1, renamed("x", "z"))
    done = drafts.apply(graph, drafts.Base(1, 0), message("b", "said"), SYSTEM)
    assert (done.edit.node, done.alone) == ("z", False)
    nodes = {node["id"]: node for node in done.draft.definition["nodes"]}
    assert set(nodes) == {"a", "z", "c"}
    assert nodes["z"]["data"]["inputs"] == {"message": "said"}
    assert nodes["c"]["data"]["inputs"] == {"value": "${{ z.outputs.value }}"}
    undo.step(graph, SYSTEM)
    undo.step(graph, SYSTEM)
    change(graph, 3, label("z", "late"))
    assert labels(graph)["x"] == "late", "a rename that was undone is followed back"


def test_a_rename_takes_along_what_others_did(publish):
    graph = publish("a>b")
    change(graph, 0, message("b", "x"))
    change(graph, 1, lambda was: edits.move(was, "b", {"x": 1, "y": 2}))
    change(graph, 0, renamed("b", "c"))
    nodes = {node["id"]: node for node in drafts.draft_of(graph).definition["nodes"]}
    assert set(nodes) == {"a", "c"}
    assert (nodes["c"]["data"]["inputs"], nodes["c"]["position"]) == (
        {"message": "x"},
        {"x": 1, "y": 2},
    )
    assert [(edge["from"], edge["to"]) for edge in drafts.draft_of(graph).definition["edges"]] == [
        ("a", "c")
    ]


def test_two_people_who_add_the_same_kind_add_two_nodes(publish):
    graph = publish("a>b")
    for _ in range(2):
        change(graph, 0, lambda was: edits.add(was, "delay", after="a"))
    for _ in range(2):
        change(graph, 0, lambda was: edits.duplicate(was, "b"))
    assert list(labels(graph)) == ["a", "b", "delay", "delay_2", "b_2", "b_3"]


def test_true_is_not_one(publish):
    graph = publish("a")
    change(graph, 0, message("a", 1))
    change(graph, 1, message("a", True))
    assert drafts.draft_of(graph).definition["nodes"][0]["data"]["inputs"]["message"] is True


def test_versions_that_are_published_by_another_way(publish, namespace):
    graph = publish("a>b")
    published = publish_graph(
        namespace, graph.name, {**definition("a>b"), "metadata": {"by": "the API"}}
    )
    change(published, 0, label("a", "mine"))
    assert drafts.draft_of(published).definition["metadata"] == {"by": "the API"}, (
        "what a page of version 1 changes is put together with version 2"
    )
    published = drafts.publish(published, drafts.Base(2, 1), SYSTEM)
    assert drafts.draft_of(published).definition["nodes"][0]["label"] == "mine"
    published = publish_graph(namespace, graph.name, definition("a>b>c"))
    draft = drafts.draft_of(published)
    assert [node["id"] for node in draft.definition["nodes"]] == ["a", "b", "c"], (
        "a draft that was published follows what is published later"
    )
    assert not drafts.differs(published, draft)
    with pytest.raises(errors.Conflict):
        drafts.publish(published, drafts.Base(3, 1), SYSTEM)


@pytest.mark.django_db(transaction=True)
@pytest.mark.races
def test_twenty_people_at_once_lose_nothing(publish):
    graph = publish(" ".join(f"n{at}" for at in range(20)))
    results = at_once(
        *(lambda at=at: change(graph, 0, label(f"n{at}", f"by {at}")) for at in range(20))
    )
    assert not [each for each in results if isinstance(each, Exception)]
    assert labels(graph) == {f"n{at}": f"by {at}" for at in range(20)}
    assert sorted(graph.draft_changes.values_list("revision", flat=True)) == list(range(1, 21))


def test_undo_redo_and_what_was_published(publish):
    graph = publish("a>b")
    change(graph, 0, label("a", "one"))
    change(graph, 1, label("a", "two"))
    undo.step(graph, SYSTEM)
    assert labels(graph)["a"] == "one"
    undo.step(graph, SYSTEM)
    assert labels(graph)["a"] is None
    with pytest.raises(errors.Conflict, match="nothing to undo"):
        undo.step(graph, SYSTEM)
    undo.step(graph, SYSTEM, redo=True)
    undo.step(graph, SYSTEM, redo=True)
    assert labels(graph)["a"] == "two"
    assert drafts.differs(graph, drafts.draft_of(graph))
    graph = drafts.publish(graph, drafts.Base(1, 6), SYSTEM, "labelled")
    assert (graph.current.number, graph.current.note) == (2, "labelled")
    assert not drafts.differs(graph, drafts.draft_of(graph))


def test_undo_and_redo_lead_past_a_version_that_came_another_way(publish):
    graph = publish("a")
    change(graph, 0, label("a", "first"))
    drafts.publish(graph, drafts.Base(1, 1), SYSTEM)
    graph = publish_graph(graph.namespace, graph.name, definition("a>b"))
    assert undo.steps_of(graph).undo == (1, "Version 3 was published")
    for back, found in (
        (False, {"a": "first"}),
        (False, {"a": None}),
        (True, {"a": "first"}),
        (True, {"a": None, "b": None}),
    ):
        undo.step(graph, SYSTEM, redo=back)
        assert labels(graph) == found
    assert drafts.apply(graph, drafts.draft_of(graph).base, label("b", "last"), SYSTEM).alone
    assert labels(graph) == {"a": None, "b": "last"}


def test_only_what_was_looked_at_is_published(publish):
    graph = publish("a>b")
    change(graph, 0, label("a", "one"))
    with pytest.raises(errors.Conflict, match="changed the draft meanwhile"):
        drafts.publish(graph, drafts.Base(1, 0), SYSTEM)
    broken = change(graph, 1, lambda was: edits.add(was, "no.such"))
    with pytest.raises(errors.InvalidGraph, match=r"no\.such"):
        drafts.publish(graph, broken.base, SYSTEM)
    assert Graph.objects.get(pk=graph.pk).current_id == graph.current_id


def test_the_last_hundred_changes_are_kept(publish):
    graph = publish("a>b")
    for at in range(drafts.KEPT + 5):
        change(graph, at, label("a", str(at)))
    assert graph.draft_changes.count() == drafts.KEPT
    with pytest.raises(errors.Conflict, match="very often"):
        change(graph, 2, label("b", "old page"))
    before, count = labels(graph)["a"], 0
    while undo.steps_of(graph).undo:
        undo.step(graph, SYSTEM)
        count += 1
    assert count >= drafts.KEPT // 2 - 1
    assert labels(graph)["a"] == str(int(before) - count), "each undo takes back one change"
    for _ in range(count):
        undo.step(graph, SYSTEM, redo=True)
    assert labels(graph)["a"] == before
    assert graph.draft_changes.count() == drafts.KEPT


def test_a_draft_can_be_drawn_or_is_refused(publish):
    graph = publish("a>b")
    for wrong in (
        {"nodes": {}, "edges": []},
        {"nodes": [{"id": "a"}], "edges": []},
        {"nodes": [{"id": "a", "kind": "x"}] * 2, "edges": []},
        {"nodes": [True, [], {}], "edges": [None, 1]},
        {"nodes": [], "edges": [], "inputs": {"properties": 5}},
        {"nodes": [], "edges": [], "inputs": {"properties": [1], "required": True}},
        {"nodes": [{"id": "a", "kind": "x", "position": {"x": 10**400, "y": 1}}], "edges": []},
        {
            "nodes": [{"id": "a", "kind": "x"}, {"id": "b", "kind": "x"}],
            "edges": [{"from": "a", "to": "b"}, {"from": "a", "to": "b", "data": {"when": "true"}}],
        },
    ):
        with pytest.raises(errors.Malformed):
            change(graph, 0, lambda _, wrong=wrong: edits.Edit(wrong, "put"))
    assert not DraftChange.objects.exists()


def test_changes_cost_a_constant_number_of_queries(publish, django_assert_max_num_queries):
    graph = publish(" ".join(f"n{at}" for at in range(200)))
    with django_assert_max_num_queries(12):
        change(graph, 0, label("n1", "x"))


@pytest.fixture
def admin(make_key):
    return ApiClient(make_key("admin"))


def test_the_api_of_drafts(admin, publish):
    graph = publish("a>b")
    path = f"/graphs/{graph.pk}/draft"
    code, body = admin("GET", path)
    assert (code, body["revision"], body["differs"]) == (200, 0, False)
    tag = admin.response["ETag"]
    put = {
        "nodes": [{"id": "a", "kind": "noop"}, {"id": "b", "kind": "no.such"}],
        "edges": [{"from": "a", "to": "b"}],
    }
    assert admin("PUT", path, put)[0] == 428
    admin.client.headers = {}
    answer = admin.client.put(path, put, content_type="application/json", headers={"If-Match": tag})
    assert answer.status_code == 200, answer.content
    assert answer.json()["revision"] == 1
    again = admin.client.put(path, put, content_type="application/json", headers={"If-Match": tag})
    assert again.status_code == 412
    refused = admin.client.post(
        f"{path}/publish",
        {"note": "n"},
        content_type="application/json",
        headers={"If-Match": answer["ETag"]},
    )
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["nodeId"] == "b"
    put["nodes"][1] = {"id": "b", "kind": "noop", "label": "new"}
    answer = admin.client.put(
        path, put, content_type="application/json", headers={"If-Match": answer["ETag"]}
    )
    done = admin.client.post(
        f"{path}/publish",
        {"note": "n"},
        content_type="application/json",
        headers={"If-Match": answer["ETag"]},
    )
    assert (done.status_code, done.json()["version"]) == (200, 2), done.content
    assert Graph.objects.get(pk=graph.pk).current.note == "n"
    bad = admin.client.put(
        path,
        {"nodes": [{"id": "a"}], "edges": []},
        content_type="application/json",
        headers={"If-Match": "*"},
    )
    assert bad.status_code == 422
    assert bad.json()["errors"][0]["path"] == "/nodes/0"


def test_pictures_text_and_warnings_over_the_api(admin, publish):
    graph = publish("a>b c")
    assert (
        admin.client.get(f"/graphs/{graph.pk}/graph.mmd")
        .content.decode()
        .startswith("flowchart LR\n")
    )
    assert admin.client.get(f"/graphs/{graph.pk}/graph.svg")["Content-Type"] == "image/svg+xml"
    _, body = admin("POST", f"/graphs/{graph.pk}/validate", {})
    assert body["valid"]
    assert [each["nodeId"] for each in body["warnings"]] == ["c"]


def test_others_drafts_are_not_found(make_key, publish, namespace):
    from graphs.models import Namespace

    other = publish_graph(Namespace.objects.create(name="beta"), "theirs", definition("a"))
    reader = ApiClient(make_key("run"))
    for path in ("draft", "graph.mmd", "graph.svg"):
        assert reader("GET", f"/graphs/{other.pk}/{path}")[0] == 404
    mine = publish("a")
    weak = ApiClient(make_key("read"))
    assert weak("PUT", f"/graphs/{mine.pk}/draft", definition("b"))[0] == 403
