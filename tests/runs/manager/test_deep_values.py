"""Deeply nested values are refused on every way in, and what is stored can be shown."""

import json

import pytest

from graphs.auth.callers import SYSTEM
from graphs.definition import errors, payloads
from runs.actions import run_templates
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.external.run_state import RunState
from runs.models import Run, RunTemplate

pytestmark = pytest.mark.django_db
DEEPEST = payloads.MAX_DEPTH


def nested(levels, kind=dict):
    value = kind()
    for _ in range(levels - 1):
        value = {"d": value} if kind is dict else [value]
    return value


@pytest.mark.parametrize("kind", [dict, list])
def test_a_value_is_stored_up_to_the_limit(kind):
    assert json.loads(payloads.dump(nested(DEEPEST, kind))) == nested(DEEPEST, kind)
    for levels in (DEEPEST + 1, 600, 100_000):
        with pytest.raises(payloads.NotJson, match="nested"):
            payloads.dump(nested(levels, kind))


def test_a_wide_value_is_not_deep():
    assert payloads.dump([{"[": "{"}] * 1000)
    assert payloads.dump("[" * 1000)


@pytest.mark.parametrize("by_tool", [False, True])
def test_pages_and_documents_show_the_deepest_value_that_is_stored(
    run_graph, admin_client, by_tool
):
    inputs = {"a": {"levels": DEEPEST, "by_tool": by_tool}}
    run = run_graph("a", kinds={"a": "test.nested"}, inputs=inputs)
    assert run.status == "completed"
    for tab in ("states", "data", "timeline", "logs"):
        page = admin_client.get(f"/admin/run-manager/run/{run.pk}/?tab={tab}")
        assert page.status_code == 200
    paths = (f"/runs/{run.run_id}/bundle", f"/runs/{run.run_id}/states", f"/runs/{run.run_id}")
    for path in (*paths, f"/runs/{run.run_id}/checkpoint"):
        answer = admin_client.get(path)
        body = b"".join(answer.streaming_content) if answer.streaming else answer.content
        assert answer.status_code == 200, path
        assert json.loads(body)


@pytest.mark.parametrize("levels", [DEEPEST + 1, 600, 2000])
@pytest.mark.parametrize("by_tool", [False, True])
def test_a_node_fails_on_a_value_that_is_too_deep(run_graph, levels, by_tool):
    inputs = {"a": {"levels": levels, "by_tool": by_tool}}
    run = run_graph("a", kinds={"a": "test.nested"}, inputs=inputs)
    assert run.status == "failed"
    assert "nested" in run.states.get().error


def test_runs_templates_and_documents_are_not_stored_with_one(publish, namespace):
    deep = nested(600)
    graph = publish("a")
    for start in (
        lambda: start_run(graph, RunOptions(run_id="r", inputs=deep)),
        lambda: start_run(graph, RunOptions(run_id="r", metadata=deep)),
        lambda: start_outside(namespace, RunOptions(run_id="r", inputs=deep)),
        lambda: start_outside(namespace, RunOptions(run_id="r", metadata=deep)),
        lambda: RunState.from_dict({"data": deep}),
        lambda: run_templates.save(
            RunTemplate(namespace=namespace, graph=graph, name="t", inputs=deep), SYSTEM
        ),
    ):
        with pytest.raises(errors.StateManagerError, match="nested"):
            start()
    assert not Run.objects.exists()
    assert not RunTemplate.objects.exists()
