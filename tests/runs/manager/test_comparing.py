"""The page from which a run is rerun, and the page that compares two runs."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from graphs.auth.callers import SYSTEM
from graphs.definition.differences import differences
from graphs.services.publish import publish_graph
from runs.actions.rerun import RerunOptions, rerun
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import Run
from runs.queries import compare
from tests.support.definitions import definition
from tests.support.pages import LIST, text

pytestmark = pytest.mark.django_db


def test_the_rerun_page_previews_what_would_happen(admin_client, failed):
    url = f"{LIST}rerun/{failed.pk}/"
    page = text(admin_client.post(url, {"from": "failed", "preview": "1"}))
    assert "1 state would run again" in page
    assert "2 would be reused" in page
    changed = text(admin_client.post(url, {"from": "start", "inputs": '{"n": 2}', "preview": "1"}))
    assert (
        '<span class="rm-sign">~</span>changed</td>'
        '<th scope="row" data-label="Where"><code>n</code>' in changed
    )
    assert Run.objects.count() == 1
    assert "rerun from the start" in text(
        admin_client.post(url, {"from": "node", "node": "b", "inputs": '{"n": 2}'})
    )
    for wrong, message in (
        ({"at": "2020-01-01T00:00"}, "in the past"),
        ({"at": "soon"}, "is not a time"),
        ({"inputs": "[]"}, "JSON object"),
    ):
        answer = admin_client.post(url, {"from": "start", **wrong})
        assert answer.status_code == 422
        assert message in text(answer), wrong
    admin_client.post(url, {"from": "start", "at": "2030-01-01T02:00+02:00"})
    due_at = Run.objects.latest("pk").states.get().due_at
    assert abs(due_at - datetime(2030, 1, 1, tzinfo=UTC)) < timedelta(minutes=1)


def test_inputs_with_a_schema_have_form_fields(admin_client, namespace):
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1},
            "on": {"type": "boolean"},
            "how": {"enum": ["fast", "slow"]},
        },
    }
    graph = publish_graph(namespace, "typed", {**definition("a"), "inputs": schema})
    run = start_run(graph, RunOptions(inputs={"n": 3, "how": "fast"}))
    url = f"{LIST}rerun/{run.pk}/"
    page = text(admin_client.get(url))
    assert 'name="input-n" value="3"' in page
    admin_client.post(
        url, {"from": "start", "input-n": "4", "input-on": "true", "input-how": '"slow"'}
    )
    assert Run.objects.latest("pk").initial_data == {"n": 4, "on": True, "how": "slow"}
    assert admin_client.post(url, {"from": "start", "input-n": "0"}).status_code == 422


def test_two_runs_are_compared_in_sentences(admin_client, failed, drain):
    new_run = rerun(failed, SYSTEM, RerunOptions(inputs={"n": 2}))
    drain()
    new_run.refresh_from_db()
    comparison = compare.compare(failed, new_run)
    assert comparison.summary[:2] == ["Same graph, version 1.", "2 inputs differ."]
    page = text(admin_client.get(f"{LIST}compare/?a={failed.pk}&b={new_run.run_id}"))
    assert "2 inputs differ." in page
    assert "hunter2" not in page
    answer = admin_client.post(f"{LIST}compare/", {"run": [new_run.pk, failed.pk]})
    assert answer.url == f"{LIST}compare/?a={failed.pk}&b={new_run.pk}"
    assert "Select two runs" in text(
        admin_client.post(f"{LIST}compare/", {"run": [new_run.pk]}, follow=True)
    )
    assert "There is no run nowhere" in text(
        admin_client.get(f"{LIST}compare/?a={failed.pk}&b=nowhere")
    )


def test_the_first_divergence_is_named(run_graph):
    completed = run_graph("a>b>c", inputs={"b": {"value": 1}})
    failed = run_graph("a>b>c", kinds={"b": "test.fail"})
    comparison = compare.compare(completed, failed)
    assert "Same graph, version 1 → 2." in comparison.summary
    assert "They part at b: completed vs failed (ValueError: broken)." in comparison.summary
    assert [pair.node for pair in comparison.nodes if not pair.same] == ["b", "c"]
    assert any(difference.path.endswith("kind") for difference in comparison.definition)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"x": 1}, {"x": 1}, []),
        ({"x": 1}, {"x": True}, [("x", "~")]),
        (
            {"x": [1, {"y": 2}]},
            {"x": [1, {"y": 3}, 4], "z": None},
            [("x[1].y", "~"), ("x[2]", "+"), ("z", "+")],
        ),
        ({"x": 1}, [], [("", "~")]),
        ({"x": 1.0}, {"x": 1}, []),
    ],
)
def test_differences_of_json_values(a, b, expected):
    signs = [(difference.path, difference.sign) for difference in differences(a, b)]
    assert signs == expected


def test_a_double_click_reruns_once(admin_client, failed):
    url = f"{LIST}rerun/{failed.pk}/"
    key = re.search(r'name="asked" value="(\w+)"', text(admin_client.get(url)))[1]
    first = admin_client.post(url, {"from": "start", "asked": key})
    second = admin_client.post(url, {"from": "start", "asked": key})
    assert first.url == second.url
    assert Run.objects.filter(parent=failed).count() == 1
    admin_client.post(url, {"from": "start", "asked": f"{key}x"})
    assert Run.objects.filter(parent=failed).count() == 2
