"""Documents count among the bytes that their run stores, and are refused beyond the limit."""

import pytest

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.web import ttl_cache
from runs.engine import quota
from runs.external import documents, updates
from runs.external.run_state import RunStatus
from runs.models import Checkpoint, LogLine, Run, State, ToolResult
from tests.support.runs import outside

pytestmark = pytest.mark.django_db
KILOBYTE = "é" * 500


def report(run, **data):
    """Report a new document of the run."""
    state = documents.run_state(run)
    state.data |= data
    return updates.put_run_state(run, state, SYSTEM)


def stored(run):
    run.refresh_from_db()
    return run.stored_bytes


def kept(run):
    """The bytes of the documents that the run has kept."""
    return sum(len(row.body) for row in Checkpoint.objects.filter(run=run))


def rows(run):
    models = (Checkpoint, State, ToolResult, LogLine)
    return [model.objects.filter(run=run).count() for model in models], run.status, run.data


def test_documents_are_counted_once_and_no_longer_when_they_are_dropped(monkeypatch):
    monkeypatch.setattr(updates, "MAX_DOCUMENTS", 3)
    run = outside(run_id="theirs")
    for step in range(6):
        document = report(run, step=step, text=KILOBYTE)
        assert stored(run) == kept(run)
    before = stored(run)
    updates.put_run_state(run, document, SYSTEM)
    assert stored(run) == before, "the same document again"
    assert Checkpoint.objects.filter(run=run).count() == 3


def test_tool_results_are_counted_when_they_are_recorded():
    run = outside(run_id="theirs")
    state = documents.run_state(run)
    state.tool_results_cache["theirs:a:tool:1"] = {"value": KILOBYTE}
    updates.put_run_state(run, state, SYSTEM)
    first = stored(run) - kept(run)
    assert first == pytest.approx(1000, abs=20)
    report(run, step=2)
    assert stored(run) - kept(run) == first
    documents_size = kept(run)
    state = documents.run_state(run)
    state.tool_results_cache["theirs:a:tool:2"] = 1
    updates.put_run_state(run, state, SYSTEM)
    assert stored(run) == kept(run) + first + 1
    assert kept(run) > documents_size


def test_a_document_beyond_the_limit_is_refused_and_changes_nothing(conf, api_client):
    run = outside(run_id="theirs")
    report(run, text=KILOBYTE)
    conf.MAX_RUN_BYTES = stored(run) + 3000
    before = rows(run)
    with pytest.raises(errors.TooLarge, match="raise MAX_RUN_BYTES"):
        report(run, text=KILOBYTE * 3)
    state = documents.run_state(run)
    state.status = RunStatus.RUNNING
    state.tool_results_cache["k"] = KILOBYTE
    with pytest.raises(errors.TooLarge, match="raise MAX_RUN_BYTES"):
        updates.put_run_state(run, state, SYSTEM)
    run.refresh_from_db()
    assert rows(run) == before
    body = {"node": "a", "event": "completed", "output": {"value": KILOBYTE * 3}}
    answer = api_client.post("/runs/theirs/mark", body, format="json")
    assert answer.status_code == 413
    assert "raise MAX_RUN_BYTES" in answer.json()["detail"]
    run.refresh_from_db()
    assert rows(run) == before
    report(run, small=1)


def test_runs_from_before_bytes_were_counted_go_on(monkeypatch):
    monkeypatch.setattr(updates, "MAX_DOCUMENTS", 2)
    run = outside(run_id="theirs")
    for step in range(3):
        report(run, step=step, text=KILOBYTE)
    Run.objects.update(stored_bytes=0)
    report(run, step=3, text="")
    assert stored(run) == 0


def test_documents_count_for_their_namespace():
    run = outside(run_id="theirs")
    report(run, text=KILOBYTE)
    run.namespace.max_stored_bytes = 1000
    run.namespace.save()
    ttl_cache.forget()
    assert quota.stored_bytes(run.namespace) == stored(run)
    with pytest.raises(errors.TooLarge, match="Delete old runs"):
        outside(run_id="next")
    report(run, more=1)  # a run that has started goes on
