"""JSON bodies with a byte order mark, as some tools write them, are JSON."""

import pytest

from graphs.api.parsers import _load

pytestmark = pytest.mark.django_db


def test_a_byte_order_mark_before_json_is_skipped():
    assert _load('{"ä": 1}'.encode("utf-8-sig")) == {"ä": 1}


def test_a_body_with_a_byte_order_mark_is_accepted(client, make_key):
    body = '{"name": "g", "nodes": [{"id": "a", "kind": "noop"}], "edges": []}'.encode("utf-8-sig")
    answer = client.post(
        "/graphs",
        body,
        content_type="application/json",
        headers={"X-API-Key": make_key("run")},
    )
    assert answer.status_code == 201, answer.content


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "g", "name": "h", "nodes": [], "edges": []}',
        '{"name": "g", "nodes": [{"id": "a", "kind": "noop", "kind": "noop"}], "edges": []}',
    ],
)
def test_a_member_that_is_there_twice_is_refused(client, make_key, body):
    headers = {"X-API-Key": make_key("run")}
    answer = client.post("/graphs", body, content_type="application/json", headers=headers)
    assert (answer.status_code, "twice" in answer.content.decode()) == (422, True)


@pytest.mark.parametrize(
    "query", ["namespace=default&namespace=beta", "limit=1&limit=1", "status=failed&status=running"]
)
def test_a_parameter_that_is_there_twice_is_refused(client, make_key, query):
    answer = client.get(f"/runs?{query}", headers={"X-API-Key": make_key("read")})
    name = query.partition("=")[0]
    [problem] = answer.json()["detail"]
    assert (answer.status_code, problem["loc"], problem["type"]) == (
        422,
        ["query", name],
        "repeated",
    )
