"""Notes on runs: over REST, on the page, in the bundle, and gone with the run."""

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client

from graphs.auth.callers import SYSTEM
from graphs.models import NamespaceMembership
from runs.actions import notes
from runs.actions.delete import delete_run
from runs.engine import control
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import AuditEntry, RunNote
from tests.support.api_client import ApiClient
from tests.support.pages import LIST

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(publish):
    return start_run(publish("a"), RunOptions(run_id="r"))


@pytest.fixture
def api(make_key):
    return ApiClient(make_key("run"))


@pytest.fixture
def person(namespace):
    """Make a member of staff with this role, and a client that is logged in."""

    def make(name, role):
        user = User.objects.create_user(name, is_staff=True)
        NamespaceMembership.objects.create(namespace=namespace, user=user, role=role)
        client = Client()
        client.force_login(user, "django.contrib.auth.backends.ModelBackend")
        return client

    return make


def test_notes_are_written_listed_and_deleted_over_rest(api, run, make_key):
    status, note = api("POST", "/runs/r/notes", {"text": " Line one\r\n<b>two</b> "})
    assert (status, note["text"]) == (201, " Line one\n<b>two</b> ")
    assert note["created_at"].endswith("Z")
    reader = ApiClient(make_key("read"))
    assert reader("GET", "/runs/r/notes") == (200, {"notes": [note], "next": None})
    assert reader("POST", "/runs/r/notes", {"text": "x"})[0] == 403
    assert reader("DELETE", f"/runs/r/notes/{note['id']}")[0] == 403
    assert api("DELETE", f"/runs/r/notes/{note['id']}")[0] == 204
    assert api("DELETE", f"/runs/r/notes/{note['id']}")[0] == 404
    assert not RunNote.objects.exists()
    actions = AuditEntry.objects.filter(run=run.pk).order_by("pk").values_list("action", "detail")
    assert list(actions)[-2:] == [("note", ""), ("delete_note", f"by {note['author']}")]


@pytest.mark.parametrize("text", ["", "  ", "x" * (notes.MAX_TEXT + 1), "a\x00b", None, [1]])
def test_a_text_that_is_no_note_is_refused(api, run, text):
    assert api("POST", "/runs/r/notes", {"text": text})[0] == 422
    assert not RunNote.objects.exists()


def test_a_run_has_a_limited_number_of_notes(api, run, monkeypatch):
    monkeypatch.setattr(notes, "MAX_NOTES", 1)
    assert api("POST", "/runs/r/notes", {"text": "one"})[0] == 201
    status, answer = api("POST", "/runs/r/notes", {"text": "two"})
    assert (status, "delete one" in answer["detail"]) == (409, True)


def test_the_page_shows_notes_and_takes_them_without_javascript(person, run):
    ann, viewer = person("ann", "operator"), person("vera", "viewer")
    tab = f"{LIST}run/{run.pk}/notes/"
    assert ann.post(f"{tab}add/", {"text": "<b>See</b> the log"}).url == tab
    note = RunNote.objects.get()
    assert note.author == "ann"
    page = viewer.get(tab).content.decode()
    assert "&lt;b&gt;See&lt;/b&gt; the log" in page
    assert f"{tab}add/" not in page
    assert f"{tab}{note.pk}/delete/" not in page
    assert viewer.post(f"{tab}add/", {"text": "x"}).status_code == 403
    viewer.post(f"{tab}{note.pk}/delete/")
    assert RunNote.objects.get() == note
    refused = ann.post(f"{tab}add/", {"text": "y" * (notes.MAX_TEXT + 1)})
    assert refused.status_code == 422
    assert "y" * (notes.MAX_TEXT + 1) in refused.content.decode(), "what was typed is not lost"
    assert ann.post(f"{tab}{note.pk}/delete/").url == tab
    assert not RunNote.objects.exists()


def test_a_note_of_somebody_else_is_deleted_only_by_those_who_may_delete_the_run(person, run):
    ann, ben, max_ = (
        person("ann", "operator"),
        person("ben", "operator"),
        person("max", "manager"),
    )
    tab = f"{LIST}run/{run.pk}/notes/"
    ann.post(f"{tab}add/", {"text": "mine"})
    note = RunNote.objects.get()
    ben.post(f"{tab}{note.pk}/delete/")
    assert RunNote.objects.exists()
    max_.post(f"{tab}{note.pk}/delete/")
    assert not RunNote.objects.exists()


def test_notes_are_in_the_bundle_and_deleted_with_the_run(api, run):
    api("POST", "/runs/r/notes", {"text": "kept"})
    bundle = json.loads(b"".join(api.client.get("/runs/r/bundle").streaming_content))
    assert [note["text"] for note in bundle["notes"]] == ["kept"]
    delete_run(control.cancel_run(run, SYSTEM), SYSTEM)
    assert not RunNote.objects.exists()
