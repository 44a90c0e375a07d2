"""Requests that are refused before a view sees them, under any server."""

import pytest
from django.test import Client

from graphs.api.errors import PROBLEM
from statemanager import refusals

pytestmark = pytest.mark.django_db

UPLOADS = ["/datasets", "/datasets/", "/admin/flow/datasets/", "/admin/flow/new/"]
OTHERS = ["/", "/token", "/graphs", "/admin/login/", "/nowhere", "/admin/nowhere/", "/runs/x"]


def post(path, **options):
    return Client().generic("POST", path, b"x" * 2000, "multipart/form-data; boundary=x", **options)


@pytest.fixture(autouse=True)
def _small_bodies(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    settings.MAX_UPLOAD_BYTES = 3000


@pytest.mark.parametrize("path", OTHERS)
def test_only_uploads_may_be_large(path):
    answer = post(path)
    assert answer.status_code == 413
    assert (
        answer.json()["detail"] == "The body is too large. At most 1,000 bytes are accepted here."
    )
    assert answer["Content-Type"] == PROBLEM
    assert answer["Connection"] == "close"
    assert answer["X-Request-Id"]


@pytest.mark.parametrize("path", UPLOADS)
def test_uploads_may_be_larger_than_other_bodies_up_to_their_own_limit(path, settings):
    assert post(path).status_code in (401, 302, 403)
    settings.MAX_UPLOAD_BYTES = 1500
    answer = post(path)
    assert answer.status_code == 413
    assert "1,500 bytes" in answer.json()["detail"]


def test_a_length_of_many_digits_is_too_large():
    assert post("/token", CONTENT_LENGTH="9" * 10_000).status_code == 413


def test_v0_is_refused_in_its_own_form():
    assert post("/v0/namespace/alpha/graph/g").json() == {
        "detail": "The body is too large. At most 1,000 bytes are accepted here."
    }


def test_a_body_without_a_length_is_refused():
    answer = Client().post("/token", headers={"Transfer-Encoding": "Chunked"}, CONTENT_LENGTH="")
    assert answer.status_code == 411
    assert "Content-Length" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("why", "status", "header"),
    [
        (refusals.TOO_SLOW, 408, "Connection"),
        (refusals.BUSY, 503, "Retry-After"),
        (refusals.STREAMS, 503, "Retry-After"),
        (refusals.UPLOADS, 503, "Retry-After"),
    ],
)
@pytest.mark.parametrize("path", ["/token", "/admin/login/", "/v0/namespace/alpha/graphs"])
def test_what_the_server_refuses_is_answered_in_the_form_of_the_others(path, why, status, header):
    answer = Client().get(path, **{refusals.REASON: why})
    assert answer.status_code == status
    assert answer["X-Request-Id"]
    assert answer[header]
    assert answer.json()["detail"] == refusals.ANSWERS[why][1]


def test_a_client_cannot_say_why_it_is_refused():
    assert Client().get("/healthz", headers={refusals.REASON: "busy"}).status_code == 200
