"""Drafts: concurrent edits, merging, undo and redo, publishing, and the API for them."""

import pytest

from graphs.auth.callers import SYSTEM
from graphs.definition import edits, errors
from graphs.models import Graph, Namespace
from graphs.models.draft import DraftChange
from graphs.services import drafts, undo
from graphs.services.publish import publish_graph
from tests.support.api_client import ApiClient
from tests.support.concurrency import at_once
from tests.support.definitions import definition

pytestmark = pytest.mark.django_db


def change(graph, revision, edit, choose="", seen=None):
    """The draft after an edit by somebody who saw this revision of version 1."""
    return drafts.apply(graph, drafts.Base(1, revision), edit, SYSTEM, choose, seen).draft


def label(name, text):
    """An edit that labels a node."""
    return lambda draft: edits.change(draft, name, {**edits.node_of(draft, name), "label": text})


def message(name, text):
    """An edit that replaces the inputs of a node."""
    data = {"inputs": {"message": text}}
    return lambda draft: edits.change(draft, name, {**edits.node_of(draft, name), "data": data})


def rename(name, new):
    """An edit that gives a node another id."""
    return lambda draft: edits.change(draft, name, {**edits.node_of(draft, name), "id": new})


def delete(name):
    """An edit that deletes a node."""
    return lambda draft: edits.delete(draft, name)


def nodes_of(graph):
    """The nodes of the draft by their ids."""
    return {node["id"]: node for node in drafts.draft_of(graph).definition["nodes"]}


def edges_of(definition):
    return {(edge["from"], edge["to"]) for edge in definition["edges"]}


def labels(graph):
    return {name: node.get("label") for name, node in nodes_of(graph).items()}


def test_changes_of_different_things_are_merged(publish):
    graph = publish("a>b")
    change(graph, 0, label("a", "Ann's"))
    change(graph, 0, label("b", "Ben's"))
    assert labels(graph) == {"a": "Ann's", "b": "Ben's"}
    assert graph.draft_changes.first().message.endswith("(merged)")


@pytest.fixture
def labelled_by_ann(publish):
    """A graph whose node "a" was labelled in revision 1."""
    graph = publish("a>b")
    change(graph, 0, label("a", "Ann's"))
    return graph


def test_two_changes_of_one_thing_are_a_conflict_and_nothing_is_saved(labelled_by_ann):
    with pytest.raises(drafts.Conflicting, match="a › label") as raised:
        change(labelled_by_ann, 0, label("a", "Ben's"))
    [conflict] = raised.value.conflicts
    assert (conflict.base, conflict.mine, conflict.theirs) == (None, "Ben's", "Ann's")
    assert labels(labelled_by_ann)["a"] == "Ann's"


def test_choosing_theirs_drops_the_conflicting_change(labelled_by_ann):
    change(labelled_by_ann, 0, label("a", "Ben's"), "theirs", 1)
    assert labels(labelled_by_ann)["a"] == "Ann's"


def test_choosing_mine_replaces_only_the_value_that_was_seen(labelled_by_ann):
    change(labelled_by_ann, 1, label("a", "Ann's, again"))
    with pytest.raises(drafts.Conflicting, match="a › label"):
        change(labelled_by_ann, 0, label("a", "Ben's"), "mine", 1)
    change(labelled_by_ann, 0, label("a", "Ben's"), "mine", 2)
    assert labels(labelled_by_ann)["a"] == "Ben's"


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        (message("b", "x"), delete("b")),
        (delete("b"), message("b", "x")),
        (rename("b", "x"), rename("b", "y")),
        (rename("b", "x"), delete("b")),
        (delete("b"), rename("b", "x")),
    ],
)
def test_changing_a_node_that_somebody_else_deleted_or_renamed_is_a_conflict(publish, theirs, mine):
    graph = publish("a>b")
    change(graph, 0, theirs)
    with pytest.raises(drafts.Conflicting):
        change(graph, 0, mine)


@pytest.mark.parametrize(
    ("theirs", "mine", "choose", "drawing"),
    [
        (rename("b", "x"), rename("b", "y"), "mine", "a>y>c"),
        (rename("b", "x"), rename("b", "y"), "theirs", "a>x>c"),
        (rename("b", "x"), delete("b"), "mine", "a c"),
        (rename("b", "x"), delete("b"), "theirs", "a>x>c"),
        (delete("b"), rename("b", "x"), "mine", "a>x>c"),
        (delete("b"), rename("b", "x"), "theirs", "a c"),
    ],
)
def test_a_conflict_about_a_renamed_node_leaves_at_most_one_node(
    publish, theirs, mine, choose, drawing
):
    graph = publish("a>b>c")
    change(graph, 0, theirs)
    change(graph, 0, mine, choose, 1)
    expected = definition(drawing)
    assert set(nodes_of(graph)) == {node["id"] for node in expected["nodes"]}
    assert edges_of(drafts.draft_of(graph).definition) == edges_of(expected)


def test_a_change_of_a_renamed_node_follows_the_new_name(publish):
    graph = publish("a>b>c", inputs={"c": {"value": "${{ b.outputs.value }}"}})
    change(graph, 0, rename("b", "x"))
    change(graph, 1, rename("x", "z"))
    applied = drafts.apply(graph, drafts.Base(1, 0), message("b", "hello"), SYSTEM)
    assert (applied.edit.node, applied.alone) == ("z", False)
    nodes = {node["id"]: node for node in applied.draft.definition["nodes"]}
    assert set(nodes) == {"a", "z", "c"}
    assert nodes["z"]["data"]["inputs"] == {"message": "hello"}
    assert nodes["c"]["data"]["inputs"] == {"value": "${{ z.outputs.value }}"}
    undo.step(graph, SYSTEM)
    undo.step(graph, SYSTEM)
    change(graph, 3, label("z", "late"))
    assert labels(graph)["x"] == "late", "a rename that was undone is followed back"


def test_a_renamed_node_keeps_the_changes_of_others(publish):
    graph = publish("a>b")
    change(graph, 0, message("b", "x"))
    change(graph, 1, lambda draft: edits.move(draft, "b", {"x": 1, "y": 2}))
    change(graph, 0, rename("b", "c"))
    nodes = nodes_of(graph)
    assert set(nodes) == {"a", "c"}
    assert nodes["c"]["data"]["inputs"] == {"message": "x"}
    assert nodes["c"]["position"] == {"x": 1, "y": 2}
    edges = drafts.draft_of(graph).definition["edges"]
    assert [(edge["from"], edge["to"]) for edge in edges] == [("a", "c")]


def test_two_people_who_add_a_node_of_the_same_kind_add_two_nodes(publish):
    graph = publish("a>b")
    for _ in range(2):
        change(graph, 0, lambda draft: edits.add(draft, "delay", after="a"))
    for _ in range(2):
        change(graph, 0, lambda draft: edits.duplicate(draft, "b"))
    assert list(labels(graph)) == ["a", "b", "delay", "delay_2", "b_2", "b_3"]


def test_changing_one_to_true_is_a_change(publish):
    """They are equal in Python, but not in JSON."""
    graph = publish("a")
    change(graph, 0, message("a", 1))
    change(graph, 1, message("a", True))
    assert nodes_of(graph)["a"]["data"]["inputs"]["message"] is True


def test_a_change_is_merged_with_a_version_that_the_api_published(publish, namespace):
    graph = publish("a>b")
    published = publish_graph(
        namespace, graph.name, {**definition("a>b"), "metadata": {"by": "the API"}}
    )
    change(published, 0, label("a", "mine"))
    assert drafts.draft_of(published).definition["metadata"] == {"by": "the API"}
    published = drafts.publish(published, drafts.Base(2, 1), SYSTEM)
    assert labels(published)["a"] == "mine"


def test_a_draft_without_changes_follows_the_published_version(publish, namespace):
    graph = publish("a>b")
    change(graph, 0, label("a", "mine"))
    drafts.publish(graph, drafts.Base(1, 1), SYSTEM)
    published = publish_graph(namespace, graph.name, definition("a>b>c"))
    draft = drafts.draft_of(published)
    assert [node["id"] for node in draft.definition["nodes"]] == ["a", "b", "c"]
    assert not drafts.differs(published, draft)
    with pytest.raises(errors.Conflict):
        drafts.publish(published, drafts.Base(2, 1), SYSTEM)


@pytest.mark.django_db(transaction=True)
@pytest.mark.races
def test_twenty_people_at_the_same_moment_lose_nothing(publish):
    graph = publish(" ".join(f"n{at}" for at in range(20)))
    results = at_once(
        *(lambda at=at: change(graph, 0, label(f"n{at}", f"by {at}")) for at in range(20))
    )
    assert not [result for result in results if isinstance(result, Exception)]
    assert labels(graph) == {f"n{at}": f"by {at}" for at in range(20)}
    assert sorted(graph.draft_changes.values_list("revision", flat=True)) == list(range(1, 21))


def test_changes_are_undone_redone_and_published(publish):
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


def test_undo_and_redo_include_a_version_that_the_api_published(publish):
    graph = publish("a")
    change(graph, 0, label("a", "first"))
    drafts.publish(graph, drafts.Base(1, 1), SYSTEM)
    graph = publish_graph(graph.namespace, graph.name, definition("a>b"))
    assert undo.steps_of(graph).undo == (1, "Version 3 was published")
    for redo, expected in (
        (False, {"a": "first"}),
        (False, {"a": None}),
        (True, {"a": "first"}),
        (True, {"a": None, "b": None}),
    ):
        undo.step(graph, SYSTEM, redo=redo)
        assert labels(graph) == expected
    assert drafts.apply(graph, drafts.draft_of(graph).base, label("b", "last"), SYSTEM).alone
    assert labels(graph) == {"a": None, "b": "last"}


def test_only_the_revision_that_was_seen_is_published(publish):
    graph = publish("a>b")
    change(graph, 0, label("a", "one"))
    with pytest.raises(errors.Conflict, match="changed the draft meanwhile"):
        drafts.publish(graph, drafts.Base(1, 0), SYSTEM)
    assert Graph.objects.get(pk=graph.pk).current_id == graph.current_id


def test_an_invalid_draft_is_not_published(publish):
    graph = publish("a>b")
    invalid = change(graph, 0, lambda draft: edits.add(draft, "no.such"))
    with pytest.raises(errors.InvalidGraph, match=r"no\.such"):
        drafts.publish(graph, invalid.base, SYSTEM)
    assert Graph.objects.get(pk=graph.pk).current_id == graph.current_id


@pytest.fixture
def often_changed(publish):
    """A graph whose node "a" was relabelled more often than changes are stored."""
    graph = publish("a>b")
    for at in range(drafts.KEPT + 5):
        change(graph, at, label("a", str(at)))
    return graph


def test_only_the_latest_changes_are_stored(often_changed):
    assert often_changed.draft_changes.count() == drafts.KEPT


def test_a_page_older_than_the_stored_changes_cannot_be_saved(often_changed):
    with pytest.raises(errors.Conflict, match="very often"):
        change(often_changed, 2, label("b", "old page"))


def test_half_of_the_stored_changes_can_be_undone_and_redone(often_changed):
    """Each undo is stored as a change, too, and pushes out an older one."""
    before = labels(often_changed)["a"]
    undone = 0
    while undo.steps_of(often_changed).undo:
        undo.step(often_changed, SYSTEM)
        undone += 1
    assert undone >= drafts.KEPT // 2 - 1
    assert labels(often_changed)["a"] == str(int(before) - undone)
    for _ in range(undone):
        undo.step(often_changed, SYSTEM, redo=True)
    assert labels(often_changed)["a"] == before
    assert often_changed.draft_changes.count() == drafts.KEPT


@pytest.mark.parametrize(
    "malformed",
    [
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
    ],
)
def test_a_draft_that_could_not_be_drawn_is_refused(publish, malformed):
    graph = publish("a>b")
    with pytest.raises(errors.Malformed):
        change(graph, 0, lambda _: edits.Edit(malformed, "put"))
    assert not DraftChange.objects.exists()


def test_a_change_costs_a_constant_number_of_queries(publish, django_assert_max_num_queries):
    graph = publish(" ".join(f"n{at}" for at in range(200)))
    with django_assert_max_num_queries(12):
        change(graph, 0, label("n1", "x"))


@pytest.fixture
def api(make_key):
    return ApiClient(make_key("admin"))


INVALID = {
    "nodes": [{"id": "a", "kind": "noop"}, {"id": "b", "kind": "no.such"}],
    "edges": [{"from": "a", "to": "b"}],
}


def current_tag(api, path):
    """The ETag of the draft as it is now."""
    api("GET", path)
    return api.response["ETag"]


def test_the_api_shows_a_draft(api, publish):
    status, body = api("GET", f"/graphs/{publish('a>b').pk}/draft")
    assert (status, body["revision"], body["differs"]) == (200, 0, False)


def test_the_api_replaces_a_draft_only_at_the_revision_that_the_caller_saw(api, publish):
    path = f"/graphs/{publish('a>b').pk}/draft"
    tag = current_tag(api, path)
    assert api("PUT", path, INVALID)[0] == 428, "the If-Match header is required"
    status, body = api("PUT", path, INVALID, **{"If-Match": tag})
    assert (status, body["revision"]) == (200, 1), body
    assert api("PUT", path, INVALID, **{"If-Match": tag})[0] == 412


def test_the_api_publishes_a_draft_and_refuses_an_invalid_one(api, publish):
    graph = publish("a>b")
    path = f"/graphs/{graph.pk}/draft"
    api("PUT", path, INVALID, **{"If-Match": current_tag(api, path)})
    tag = api.response["ETag"]
    status, body = api("POST", f"{path}/publish", {"note": "n"}, **{"If-Match": tag})
    assert status == 400
    assert body["errors"][0]["nodeId"] == "b"

    valid = {**INVALID, "nodes": [INVALID["nodes"][0], {"id": "b", "kind": "noop", "label": "new"}]}
    api("PUT", path, valid, **{"If-Match": tag})
    tag = api.response["ETag"]
    status, body = api("POST", f"{path}/publish", {"note": "n"}, **{"If-Match": tag})
    assert (status, body["version"]) == (200, 2), body
    assert Graph.objects.get(pk=graph.pk).current.note == "n"


def test_the_api_refuses_a_malformed_draft(api, publish):
    malformed = {"nodes": [{"id": "a"}], "edges": []}
    path = f"/graphs/{publish('a>b').pk}/draft"
    status, body = api("PUT", path, malformed, **{"If-Match": "*"})
    assert status == 422
    assert body["errors"][0]["path"] == "/nodes/0"


def test_the_api_draws_a_graph_and_warns_of_loose_nodes(api, publish):
    graph = publish("a>b c")
    mermaid = api.client.get(f"/graphs/{graph.pk}/graph.mmd").content.decode()
    assert mermaid.startswith("flowchart LR\n")
    assert api.client.get(f"/graphs/{graph.pk}/graph.svg")["Content-Type"] == "image/svg+xml"
    _, body = api("POST", f"/graphs/{graph.pk}/validate", {})
    assert body["valid"]
    assert [warning["nodeId"] for warning in body["warnings"]] == ["c"]


def test_drafts_of_other_namespaces_are_not_found(make_key, namespace):
    beta = Namespace.objects.create(name="beta")
    other = publish_graph(beta, "theirs", definition("a"))
    api = ApiClient(make_key("run"))
    for path in ("draft", "graph.mmd", "graph.svg"):
        assert api("GET", f"/graphs/{other.pk}/{path}")[0] == 404


def test_a_key_that_may_only_read_changes_no_draft(make_key, publish):
    api = ApiClient(make_key("read"))
    assert api("PUT", f"/graphs/{publish('a').pk}/draft", definition("b"))[0] == 403
