"""What people do with single checkpoints: see what changed, resume from one, delete one."""

import pytest

pytest.importorskip("langgraph.checkpoint.base")

from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.test import Client

from graphs.models import NamespaceMembership
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside
from runs.external import documents
from runs.langgraph.prune import DELTA_METADATA
from runs.models import AuditEntry, Checkpoint, CheckpointBlob, CheckpointWrite, Run
from tests.support.api_client import ApiClient
from tests.support.checkpoints import place, put
from tests.support.pages import LIST, page_of, text

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def thread(saver):
    """A thread of three checkpoints in a row; the second has a write on top of it."""
    configs, parent = [], ""
    for step in range(3):
        values = {"count": step, "same": "x"} | ({"new": [1]} if step == 2 else {})
        configs.append(put(saver, values=values, parent=parent, step=step))
        parent = configs[-1]["configurable"]["checkpoint_id"]
    saver.put_writes(configs[1], [("count", 2)], "task")
    return [config["configurable"]["checkpoint_id"] for config in configs]


@pytest.fixture
def api(make_key):
    return ApiClient(make_key("admin"))


def test_a_checkpoint_says_what_changed_since_the_one_before(api, thread, admin_client):
    _, answer = api("GET", f"/runs/t/checkpoints/{thread[2]}")
    assert answer["changes"] == [
        {"path": "count", "sign": "~", "a": 1, "b": 2},
        {"path": "new", "sign": "+", "a": None, "b": [1]},
    ]
    run = Run.objects.get(run_id="t")
    row = Checkpoint.objects.get(checkpoint_id=thread[2])
    page = text(admin_client.get(f"{page_of(run, 'checkpoints')}?checkpoint={row.pk}"))
    assert "Changes since the checkpoint before" in page
    assert "<code>count</code>" in page
    assert "<code>same</code>" not in page


def test_a_thread_is_resumed_from_a_checkpoint_as_a_new_one(api, thread, saver):
    status, run = api("POST", f"/runs/t/checkpoints/{thread[1]}/fork", {"thread_id": "u"})
    assert (status, run["id"]) == (201, "u")
    newest = saver.get_tuple(place("u"))
    assert newest.config["configurable"]["checkpoint_id"] == thread[1]
    assert newest.checkpoint["channel_values"] == {"count": 1, "same": "x"}
    assert newest.pending_writes == [], "the tasks after it run again"
    assert len(list(saver.list(place("u")))) == 2
    assert len(list(saver.list(place("t")))) == 3, "the old thread stays as it is"
    put(saver, "u", values={"count": 5}, parent=thread[1])
    assert saver.get_tuple(place("t")).checkpoint["channel_values"]["count"] == 2
    forked = Run.objects.get(run_id="u")
    assert forked.parent.run_id == "t"
    assert thread[1] in forked.origin["how"]
    assert api("POST", f"/runs/t/checkpoints/{thread[1]}/fork", {"thread_id": "u"})[0] == 409
    status, run = api("POST", f"/runs/t/checkpoints/{thread[1]}/fork")
    assert (status, run["id"].startswith("t-")) == (201, True)


def test_one_checkpoint_is_deleted_and_the_others_stay_a_row(api, thread, saver):
    assert api("DELETE", f"/runs/t/checkpoints/{thread[1]}")[0] == 204
    assert api("GET", f"/runs/t/checkpoints/{thread[1]}")[0] == 404
    stored = list(saver.list(place("t")))
    ids = [each.config["configurable"]["checkpoint_id"] for each in stored]
    assert ids == [thread[2], thread[0]]
    assert stored[0].parent_config["configurable"]["checkpoint_id"] == thread[0]
    assert stored[0].checkpoint["channel_values"]["count"] == 2
    assert not CheckpointWrite.objects.exists()
    versions = CheckpointBlob.objects.filter(channel="count").count()
    assert versions == 2, "the value that only the deleted one had is gone"
    entry = AuditEntry.objects.get(action="delete_checkpoint")
    assert entry.detail == thread[1]


def test_a_run_that_has_ended_stays_so_whatever_is_deleted_of_it(api, thread, saver):
    run = Run.objects.get(run_id="t")
    Run.objects.filter(pk=run.pk).update(status="completed", finished_at=Now(), progress=100)
    for checkpoint in reversed(thread):
        assert api("DELETE", f"/runs/t/checkpoints/{checkpoint}")[0] == 204
    after = Run.objects.get(pk=run.pk)
    assert (after.status, after.progress) == ("completed", 100)
    assert after.finished_at


def test_what_later_checkpoints_need_and_documents_are_kept(api, thread, namespace):
    Checkpoint.objects.filter(checkpoint_id=thread[2]).update(metadata={DELTA_METADATA: 1})
    status, answer = api("DELETE", f"/runs/t/checkpoints/{thread[0]}")
    assert (status, "need it" in answer["detail"]) == (409, True)
    run = start_outside(namespace, RunOptions(run_id="d"))
    Checkpoint.objects.create(run=run, ns=documents.NS, checkpoint_id="c", type="json", body=b"{}")
    assert api("DELETE", "/runs/d/checkpoints/c")[0] == 409
    assert api("POST", "/runs/d/checkpoints/c/fork")[0] == 409


def test_the_page_has_the_buttons_for_those_who_may(thread, namespace):
    run = Run.objects.get(run_id="t")
    row = Checkpoint.objects.get(checkpoint_id=thread[1])
    path = f"{LIST}run/{run.pk}/checkpoints/"
    clients = {}
    for role in ("reader", "manager"):
        user = User.objects.create_user(role, is_staff=True)
        NamespaceMembership.objects.create(namespace=namespace, user=user, role=role)
        clients[role] = Client()
        clients[role].force_login(user, "django.contrib.auth.backends.ModelBackend")
    assert "Resume from here" not in text(clients["reader"].get(f"{path}?checkpoint={row.pk}"))
    for verb in ("fork", "delete"):
        clients["reader"].post(f"{path}{row.pk}/{verb}/")
    assert (Run.objects.count(), Checkpoint.objects.count()) == (1, 3)
    assert "Resume from here" in text(clients["manager"].get(f"{path}?checkpoint={row.pk}"))
    answer = clients["manager"].post(f"{path}{row.pk}/fork/")
    forked = Run.objects.exclude(pk=run.pk).get()
    assert (answer.url, forked.username) == (page_of(forked), "manager")
    clients["manager"].post(f"{path}{row.pk}/delete/")
    assert run.checkpoints.count() == 2
