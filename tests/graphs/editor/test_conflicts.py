"""Several people edit one draft, or somebody saves a page that is out of date."""

import pytest

from graphs.models import Graph
from graphs.services import drafts
from tests.support.flow_client import SCRIPT, kind

pytestmark = pytest.mark.django_db


@pytest.fixture
def bens_change(flow):
    """Ben's form, which was opened before Ann changed the same label."""
    form = {"op": "change", "node": "a", "id": "a", "view": "list"}
    flow.post(**form, label="Ann's")
    return {**form, "label": "Ben's", "revision": "1-0"}


def test_a_conflict_shows_both_values(flow, bens_change):
    answer = flow.client.post(f"{flow.path}edit", bens_change)
    page = answer.content.decode()
    assert answer.status_code == 412
    assert "Ann&#x27;s" in page
    assert "Ben&#x27;s" in page


def test_with_a_script_a_conflict_replaces_its_own_part_of_the_page(flow, bens_change):
    answer = flow.client.post(f"{flow.path}edit", bens_change, **SCRIPT)
    assert answer["HX-Retarget"] == "#fl-conflict"


def test_a_conflicting_change_can_be_saved_as_a_copy(flow, bens_change):
    copied = flow.client.post(f"{flow.path}copy", bens_change, follow=True)
    assert f"This is {flow.graph.name}-copy" in copied.content.decode()
    copy = Graph.objects.exclude(pk=flow.graph.pk).get()
    assert drafts.draft_of(copy).definition["nodes"][0]["label"] == "Ben's"
    assert flow.nodes["a"]["label"] == "Ann's"


def test_choosing_mine_saves_the_conflicting_change(flow, bens_change):
    flow.client.post(f"{flow.path}edit", {**bens_change, "choose": "mine", "seen": 1})
    assert flow.nodes["a"]["label"] == "Ben's"


@pytest.mark.parametrize("options", [SCRIPT, {}], ids=["script", "plain"])
def test_a_form_with_errors_keeps_the_revision_that_it_showed(flow, options):
    """Ann's form is older than Ben's change. Her next save must not overwrite that change."""
    flow.post(kind=kind("delay"), node="b")
    anns_revision = str(flow.revision)
    form = {
        "op": "change",
        "node": "delay",
        "id": "delay",
        "view": "picture",
        "label": "",
        "revision": anns_revision,
    }
    flow.post(**{**form, "label": "Ben's"})
    invalid = {**form, "in-seconds": "soon"}
    refused = {
        "op": "connect",
        "start": "a",
        "end": "a",
        "view": "picture",
        "node": "delay",
        "revision": anns_revision,
    }
    answers = [
        flow.client.post(f"{flow.path}edit", invalid, **options),
        flow.client.post(f"{flow.path}edit", refused, **SCRIPT),
    ]
    for answer in answers:
        page = answer.content.decode()
        assert f'name="revision" value="{anns_revision}"' in page
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


def test_choosing_a_node_also_updates_the_picture_if_the_draft_has_changed(flow):
    assert 'id="fl-picture"' not in flow.get("?node=a&shown=1-0", **SCRIPT).content.decode()
    flow.post(op="delete", node="b")
    page = flow.get("?node=a&shown=1-0", **SCRIPT).content.decode()
    assert 'id="fl-picture"' in page
    assert 'data-node="b"' not in page


@pytest.mark.parametrize("options", [SCRIPT, {}], ids=["script", "plain"])
def test_an_outdated_page_is_refused_but_its_text_is_not_lost(flow, options, monkeypatch):
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


def test_a_save_after_logging_out_does_not_leave_the_page(flow):
    """A redirect would lose the text in the form. Only requests that read are redirected."""
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


def test_the_form_is_replaced_only_after_somebody_else_changed_the_draft(flow):
    def save(label, revision):
        form = {"op": "change", "node": "a", "id": "a", "view": "picture", "label": label}
        answer = flow.client.post(f"{flow.path}edit", {**form, "revision": revision}, **SCRIPT)
        return answer.content.decode()

    alone = save("Ann's", "1-0")
    assert "fl-inspector" not in alone.replace("#fl-inspector", ""), "Ann may still be typing"
    flow.post(op="move", node="b", x="1", y="1")
    merged = save("Ann's own", "1-1")
    assert 'id="fl-inspector"' in merged
    assert 'value="1-3"' in merged, "the form has the newest revision"
