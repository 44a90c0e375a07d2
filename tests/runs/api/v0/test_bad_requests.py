"""Requests that cannot be read, and values that look like placeholders."""

import pytest

from tests.support.v0_client import node, one_state

pytestmark = pytest.mark.django_db


def test_an_id_of_no_state_is_a_404(api):
    one_state(api)
    for path in (
        "state/nonsense",
        "state/00",
        "state/%00",
        f"state/{'f' * 24}",
        f"state/{'f' * 32}",
        f"state/{'g' * 32}",
    ):
        assert api.post(f"{path}/executed", {"outputs": []})[0] == 404, path
        assert api.get(f"{path}/secrets")[0] == 404, path


def test_an_impossible_page_is_a_422(api):
    for page, size in (
        ("0", "1"),
        ("-1", "1"),
        ("1", "-1"),
        ("1", "0"),
        ("x", "1"),
        ("1", "201"),
        ("9" * 30, "1"),
    ):
        status, answer = api.get(f"runs/{page}/{size}")
        assert (status, isinstance(answer["detail"], list)) == (422, True), (page, size)


def test_a_body_that_cannot_be_read_is_a_422(api):
    for text in (
        "{",
        "",
        "[]",
        "NaN",
        '{"outputs": [{"x": NaN}]}',
        '{"outputs": [{"x": "\\ud800"}]}',
        '{"outputs": [{"x": "\\u0000"}]}',
        "[" * 100_000,
    ):
        answer = api.client.post(
            f"/v0/namespace/alpha/state/{'f' * 32}/executed", text, content_type="application/json"
        )
        assert answer.status_code == 422, text[:40]
        assert answer.json()["detail"]


def test_a_422_lists_every_problem_with_its_place(api):
    status, answer = api.put("graph/g", {"secrets": {"a": 1}, "nodes": [{"node_name": " "}]})
    places = {tuple(problem["loc"]): problem["type"] for problem in answer["detail"]}
    assert status == 422
    assert places[("body", "secrets", "a")] == "string_type"
    assert places[("body", "nodes", 0, "identifier")] == "missing"
    assert all({"type", "loc", "msg", "input"} <= set(problem) for problem in answer["detail"])


def test_a_422_for_a_body_that_is_no_json_names_the_position(api):
    url = "/v0/namespace/alpha/graph/g"
    answer = api.client.put(url, '{"secrets": ', content_type="application/json").json()
    assert answer["detail"][0]["type"] == "json_invalid"
    assert answer["detail"][0]["loc"] == ["body", 12]
    answer = api.client.put(url, "", content_type="application/json").json()
    assert answer["detail"] == [
        {"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}
    ]


def test_placeholders_in_the_values_of_a_caller_are_not_resolved(api):
    api.register("Work", inputs={"x": "string", "k": "string"})
    api.upsert(
        "g",
        node("a", inputs={"x": "", "k": "${{ store.k }}"}),
        store_config={"required_keys": ["k"], "default_values": {}},
    )
    text = "${{ store.k }} ${{ a.outputs.b }} ${{"
    api.trigger("g", inputs={"x": text}, store={"k": text})
    assert api.claim("Work")[0]["inputs"] == {"x": text, "k": text}
