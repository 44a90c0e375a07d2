"""`GET /runs/{id}/wait`: an answer that comes when the run has the status."""

import threading

import pytest
from django.db import connection, connections

from graphs.auth.callers import SYSTEM
from runs.actions.delete import delete_runs
from runs.engine import control
from runs.engine.start import start_run
from runs.queries import run_watch
from tests.support.api_client import ApiClient

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def api(make_key):
    return ApiClient(make_key("read"))


class Asker(threading.Thread):
    """Asks in a thread of its own; `answer` is (status, body)."""

    def __init__(self, api, path):
        super().__init__()
        self.api, self.path = api, path
        self.answer = None

    def run(self):
        try:
            self.answer = self.api("GET", self.path)
        finally:
            connections.close_all()


@pytest.fixture
def ask(api, monkeypatch):
    """Ask in a thread, and return once the request waits; `held` says what it still held then."""
    waiting = threading.Event()
    held = []

    class Watch(run_watch.RunWatch):
        def wait(self, *args):
            super().wait(*args)
            held.append(connection.connection)

        def _current(self):
            if waiters := super()._current():
                waiting.set()
            return waiters

    monkeypatch.setattr("runs.api.runs.watch", Watch())

    def call(path):
        asker = Asker(api, path)
        asker.start()
        assert waiting.wait(20)
        return asker, held

    return call


def test_the_answer_comes_when_the_run_ends_and_holds_no_connection(ask, publish):
    run = start_run(publish("a"))
    asker, held = ask(f"/runs/{run.run_id}/wait?until=ended&timeout=60")
    assert asker.is_alive()
    control.cancel_run(run, SYSTEM)
    asker.join(20)
    status, body = asker.answer
    assert (status, body["id"], body["status"]) == (200, run.run_id, "cancelled")
    assert held == [None]


def test_a_status_on_the_way_may_be_waited_for(ask, publish):
    run = start_run(publish("a"))
    asker, _ = ask(f"/runs/{run.run_id}/wait?until=Paused,running&timeout=60")
    control.pause_run(run, SYSTEM)
    asker.join(20)
    assert asker.answer[1]["status"] == "paused"


def test_a_run_that_is_deleted_while_one_waits_is_gone(ask, publish):
    run = start_run(publish("a"))
    asker, _ = ask(f"/runs/{run.run_id}/wait?timeout=60")
    delete_runs([run.pk], SYSTEM, even_active=True)
    asker.join(20)
    assert asker.answer[0] == 410


def test_the_run_as_it_is_comes_when_the_time_is_over(api, publish):
    run = start_run(publish("a"))
    status, body = api("GET", f"/runs/{run.run_id}/wait?timeout=0")
    assert (status, body["status"]) == (200, "queued")


def test_no_more_requests_wait_than_a_process_may_have(api, publish, monkeypatch):
    run = start_run(publish("a"))
    monkeypatch.setattr(run_watch, "MAX_WAITERS", 0)
    assert api("GET", f"/runs/{run.run_id}/wait")[0] == 429
    assert api.response.headers["Retry-After"]
    control.cancel_run(run, SYSTEM)
    assert api("GET", f"/runs/{run.run_id}/wait")[0] == 200, "an ended run is not waited for"


def test_nothing_is_watched_once_nobody_waits(publish):
    run = start_run(publish("a"))
    watch = run_watch.RunWatch()
    watch.wait(run.pk, {"queued"}, 20)
    for thread in threading.enumerate():
        if thread.name == "run-watch":
            thread.join(20)
            assert not thread.is_alive()
    assert watch.waiters == 0


@pytest.mark.parametrize("query", ["until=done", "timeout=61", "timeout=x", "timeout=-1"])
def test_a_query_that_cannot_be_read_is_refused(api, publish, query):
    run = start_run(publish("a"))
    assert api("GET", f"/runs/{run.run_id}/wait?{query}")[0] == 422
