"""A request that is refused changes nothing, on every route of the API that changes something.

The valid requests are those of the audit trail's table. Here they are spoilt, one member or
parameter at a time, and the database is compared before and after each.
"""

import json
from copy import deepcopy

import pytest
from django.apps import apps
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client

from graphs.auth import api_keys
from graphs.models import Namespace
from tests import test_audit
from tests.support.rows import written
from tests.support.storage_io import transaction_of_the_test
from tests.test_audit import API, OF_PATH, filled

pytestmark = pytest.mark.django_db
world, person = test_audit.world, test_audit.person
OTHER_APPS = {"sessions", "axes", "django_q", "admin", "contenttypes"}
WRONG = (
    None,
    0,
    -1,
    1.5,
    True,
    "",
    " ",
    "x ",
    "a/b",
    "..",
    "\x07",
    "x" * 5000,
    [],
    [1],
    {},
    {"a": 1},
)
BAD_NAMES = ("", " ", " x", "x ", "a/b", ".", "..", "\x07", "a\nb", "x" * 600)
# The routes that give something a new name, and the member that has it.
NAMED = {
    "POST graphs": "name",
    "PUT graphs/<str:graph_id>": "name",
    "POST datasets": "name",
    "POST graphs/<str:graph_id>/run": "run_id",
    "POST templates": "name",
    "POST templates/<str:template>/clone": "name",
    "POST templates/<str:template>/launch": "run_id",
    "POST start": "thread_id",
    "POST admin/run-manager/saved-views": "name",
    "POST v0/namespace/<str:ns>/graph/<str:graph>/trigger": "run_id",
    "POST v0/namespace/<str:ns>/graph/<str:graph>/states/create": "run_id",
}
ANSWERS = ("POST runs/<str:run_id>/states/<str:state>/answer", "POST approve/<str:thread_id>")
PLACES = [place for place in API if not place.startswith("POST token")]


def rows():
    """All rows, but for what a request may record about its login or its key."""
    return {
        model.__name__: sorted(map(str, model.objects.values_list()))
        for model in apps.get_models()
        if model._meta.app_label not in OTHER_APPS and model.__name__ not in ("User", "ApiKey")
    }


class Door:
    """Sends the request of a place, as it is or spoilt."""

    def __init__(self, place, world, person):
        self.place = place
        self.act = API[place]
        self.method, path = place.split(" ", 1)
        key = api_keys.create_key((), "admin", name="robot")[1]
        self.client = person if self.act.as_person else Client(headers={"X-API-Key": key})
        self.client.raise_request_exception = False
        self.url = f"/{filled(path, world.fill({**OF_PATH, **self.act.of}))}"
        self.is_upload = self.act.body == "upload"
        if self.is_upload:
            self.body = {"name": "new", "namespace": "alpha"}
        else:
            self.body = None if self.act.body is None else world.fill(self.act.body)

    def send(self, body, query=""):
        url = f"{self.url}{query}"
        if self.is_upload:
            texts = {name: str(value) for name, value in body.items() if value is not None}
            files = SimpleUploadedFile("t.csv", b"a\n1\n")
            return self.client.post(url, {**texts, "files": files})
        sent = b"" if body is None else json.dumps(body)
        headers = {"If-Match": "*"}
        return self.client.generic(
            self.method, url, sent, content_type="application/json", headers=headers
        )


@pytest.fixture
def door(request, world, person):
    return Door(request.param, world, person)


def refused(door, body, query="", what=None):
    """Send a request; whether it is refused, in which case nothing has changed."""
    written_before = written()
    after = None
    with transaction_of_the_test():
        answer = door.send(body, query)
        if answer.status_code >= 400 and written() > written_before:
            after = rows()
        transaction.set_rollback(True)
    assert answer.status_code < 500, (what, answer.content)
    if answer.status_code < 400:
        return None
    if after is not None:
        before = rows()  # the rollback has restored it
        changed = {name for name in before if before[name] != after[name]}
        assert not changed, (what, answer.status_code, answer.content, changed)
    return answer


def test_what_is_written_is_noticed(namespace):
    """Otherwise the tests below would test nothing."""
    written_before = written()
    Namespace.objects.filter(pk=namespace.pk).exists()
    assert written() == written_before
    with transaction.atomic():
        Namespace.objects.filter(pk=namespace.pk).update(name="beta")
        assert written() > written_before
        transaction.set_rollback(True)
    assert written() > written_before


@pytest.mark.parametrize("door", PLACES, ids=str, indirect=True)
def test_what_is_unknown_is_named(door):
    answer = refused(door, door.body, "?scheduel=1", "the parameter")
    assert answer is not None
    assert answer.status_code == 422
    assert "scheduel" in str(answer.json()["detail"])
    if door.place.split(" ")[1].startswith("v0") or door.place in ANSWERS:
        return  # the protocol ignores unknown members, and an answer is any JSON
    answer = refused(door, {**(door.body or {}), "scheduel": 1}, what="the member")
    assert answer is not None
    if answer.status_code == 415 and door.body is None:
        return  # datasets are uploaded as forms, and nothing else is read there
    assert answer.status_code == 422
    assert "scheduel" in str(answer.json()["detail"])


def spoilt(body):
    """The body with each of its members, and those of its first items, replaced or left out."""
    for name in body:
        yield f"without {name}", {key: value for key, value in body.items() if key != name}
        for value in WRONG:
            yield f"{name} = {value!r:.20}", {**body, name: value}
        inner = body[name]
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            for what, item in spoilt(inner[0]):
                yield f"{name}[0].{what}", {**body, name: [*deepcopy(inner[1:]), item]}
        if isinstance(inner, dict):
            for what, item in spoilt(inner):
                yield f"{name}.{what}", {**body, name: item}


@pytest.mark.parametrize(
    "door", [place for place in PLACES if isinstance(API[place].body, dict | str)], indirect=True
)
def test_a_refused_body_changes_nothing(door):
    refusals = [refused(door, body, what=what) for what, body in spoilt(door.body)]
    assert any(refusals) or not door.body


@pytest.mark.parametrize("door", NAMED, indirect=True)
def test_a_name_that_cannot_be_in_a_path_is_refused(door):
    accepted = [
        name
        for name in BAD_NAMES
        if not refused(door, {**(door.body or {}), NAMED[door.place]: name}, what=name)
    ]
    assert not accepted


NEW_NAMESPACE = {
    "POST graphs": ({"namespace": "fresh"}, {"nodes": [{"id": "n", "kind": "nothing"}]}),
    "POST datasets": ({"namespace": "fresh"}, {"encoding": "no such"}),
    "POST start": ({"namespace": "fresh", "graph": "nothing"}, {}),
    "PUT v0/namespace/<str:ns>/graph/<str:graph>": ({}, {"nodes": []}),
    "PUT v0/namespace/<str:ns>/nodes": (
        {},
        {"nodes": [{"name": "a\x07", "inputs_schema": {}, "outputs_schema": {}, "secrets": []}]},
    ),
}


@pytest.mark.parametrize("door", NEW_NAMESPACE, indirect=True)
def test_a_refused_request_creates_no_namespace(door):
    namespace, wrong = NEW_NAMESPACE[door.place]
    door.url = door.url.replace("/namespace/alpha/", "/namespace/fresh/")
    assert refused(door, {**door.body, **namespace, **wrong})
