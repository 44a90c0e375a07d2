"""Several people change one draft, or a page is too old to be saved."""

import pytest

from graphs.models import Graph
from graphs.services import drafts
from tests.support.flow_client import SCRIPT, kind

pytestmark = pytest.mark.django_db


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
