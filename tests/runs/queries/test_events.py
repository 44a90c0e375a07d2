"""The engine's events of a run, derived from its rows."""

import re

import pytest

from graphs.auth.callers import SYSTEM
from runs.core import statuses
from runs.engine import control, lease_recovery
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import State
from runs.queries import events
from tests.support.api_client import ApiClient
from tests.support.engine import claimed
from tests.support.pages import page_of, text

pytestmark = pytest.mark.django_db
RETRY = {"max_retries": 1, "backoff_factor": 60_000}


def told(run):
    run.refresh_from_db()
    rows, _ = events.events_of(run)
    assert [row.at for row in rows] == sorted(row.at for row in rows)
    return [f"{row.state.identifier if row.state else 'run'}: {row.what}" for row in rows]


def test_every_end_of_a_state_has_words():
    assert set(events.ENDS) == set(statuses.FINAL_STATES)


def test_claims_lost_workers_and_ends_are_events(publish, drain):
    run = start_run(publish("a>b"))
    claimed(seconds=-1)
    lease_recovery.rescue_expired()
    drain()
    seen = told(run)
    before = seen[: seen.index("a: lost its worker in attempt 1")]
    assert any(re.fullmatch(r"a: claimed by .+, attempt 1", row) for row in before)
    assert any(row.startswith("a: claimed") and row.endswith("attempt 2") for row in seen)
    assert seen.index("a: succeeded") < seen.index("b: succeeded")
    assert seen[-1] == "run: the run ended: completed"


def test_retries_and_acts_of_people_are_events(publish, drain, admin_client):
    run = start_run(publish("a", kinds={"a": "test.fail"}, data={"a": {"retry": RETRY}}))
    drain()
    control.pause_run(run, SYSTEM)
    control.cancel_run(run, SYSTEM)
    seen = told(run)
    assert "a: failed and was retried" in seen
    assert "a: created, retry 1" in seen
    assert "a: was cancelled" in seen
    assert f"run: pause, by {SYSTEM.label}" in seen
    page = text(admin_client.get(page_of(run, "events")))
    assert "failed and was retried" in page


def test_the_events_of_many_states_are_paged(publish, drain, monkeypatch):
    monkeypatch.setattr(events, "STATES", 2)
    run = start_run(publish("a>b>c"))
    drain()
    run.refresh_from_db()
    first, last = events.events_of(run)
    second, end = events.events_of(run, last)
    assert {row.state.identifier for row in first if row.state} == {"a", "b"}
    assert {row.state.identifier for row in second} == {"c"}
    assert (last, end) == (State.objects.get(identifier="b").pk, None)


def test_events_are_read_over_rest(publish, drain, monkeypatch, make_key):
    api = ApiClient(make_key("read"))
    monkeypatch.setattr(events, "STATES", 1)
    start_run(publish("a>b"), RunOptions(run_id="ev"))
    drain()
    first = api("GET", "/runs/ev/events")[1]
    assert [event["what"] for event in first["events"] if event["identifier"] is None] == [
        "the run began",
        "the run ended: completed",
    ]
    second = api("GET", f"/runs/ev/events?after={first['next']}")[1]
    assert {event["identifier"] for event in second["events"]} == {"b"}
    assert second["next"] is None
    assert api("GET", "/runs/ev/events?after=x")[0] == 404
