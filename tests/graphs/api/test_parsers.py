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
