"""The example graphs can be started and do what their descriptions promise."""

import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from graphs.models import Graph
from graphs.services import examples
from runs.engine.answer import answer_state
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import Run, State
from tests.support.clusters import until
from tests.support.flow_client import HOME
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


@pytest.fixture
def polled_server(conf):
    """A server that fails the first request, is busy at the second and then ready.

    Gives its URL and the list of the requested paths.
    """
    conf.ALLOW_PRIVATE_ADDRESSES = True
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            body = json.dumps({"state": "ready" if len(requests) > 2 else "busy"}).encode()
            self.send_response(500 if len(requests) == 1 else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", requests
    server.shutdown()
    server.server_close()


def make_due(states):
    states.update(
        due_at=timezone.now() - timedelta(minutes=1), claim_at=timezone.now() - timedelta(minutes=1)
    )


def test_the_polling_example_polls_until_the_server_is_ready(
    staff, namespace, drain, polled_server
):
    url, requests = polled_server
    graph = examples.put("api-polling", namespace, SYSTEM)
    inputs = {"url": url, "until": 'body.state == "ready"'}
    run = start_run(graph, RunOptions(inputs=inputs))
    for _ in range(5):
        make_due(State.objects.filter(run=run, status="CREATED"))
        drain()
    run.refresh_from_db()
    assert (run.status, len(requests)) == ("completed", 3), (
        "expected one failure, one busy answer and one ready answer"
    )
    assert run.retried_count == 1


@pytest.mark.django_db(transaction=True)
def test_the_langgraph_example_asks_on_the_run_page_and_its_thread_is_a_run(
    staff, namespace, drain
):
    staff.post(f"{HOME}examples/langgraph-thread/", {"namespace": namespace.pk, "run_id": "one"})
    drain()
    run = Run.objects.get(run_id="one")
    waiting = State.objects.get(run=run, identifier="assistant")
    assert "Send this reply?" in waiting.waiting_for["question"]
    thread = Run.objects.get(run_id__startswith="one-assistant-")
    assert (thread.status, thread.graph) == ("paused", None)
    answer_state(run, waiting.pk, {"send": True, "text": "On its way"}, SYSTEM)
    drain()
    run.refresh_from_db()
    thread.refresh_from_db()
    assert (run.status, thread.status) == ("completed", "completed")
    assert by_node(run) == {"assistant": ["SUCCESS"], "sent": ["SUCCESS"]}
    assert run.logs.filter(message="Sent: On its way").exists()


@pytest.fixture
def start_example(staff, namespace, drain):
    """start_example("approval"): the example's run, after everything that was ready has run."""

    def start(name):
        answer = staff.post(f"{HOME}examples/{name}/", {"namespace": namespace.pk, "run_id": "one"})
        run = Run.objects.get()
        assert answer["Location"].endswith(f"/run/{run.pk}/")
        drain()
        run.refresh_from_db()
        return run

    return start


def test_the_approval_example_waits_for_an_answer(start_example):
    run = start_example("approval")
    assert by_node(run)["approve"] == ["CREATED"]
    assert run.initial_data == {"text": "We open on Monday"}


def test_the_flight_delays_example_makes_a_file(start_example):
    run = start_example("flight-delays")
    assert run.status == "completed"
    assert run.artifacts.filter(name="flight_delays.zip").exists()


def test_the_fan_out_example_makes_one_report_for_all_items(start_example, drain):
    run = start_example("fan-out")

    def ended():
        make_due(State.objects.filter(run=run, status="CREATED", due_at__isnull=False))
        drain()
        return Run.objects.get(pk=run.pk).ended

    until(ended)
    assert by_node(run)["confirm"] == ["SUCCESS"] * 4
    assert by_node(run)["report"] == ["SUCCESS"]


@pytest.mark.parametrize("name", ["approval", "fan-out", "flight-delays"])
def test_opening_an_example_that_was_started_makes_no_second_graph(
    name, staff, namespace, start_example
):
    assert name in examples.EXAMPLES
    start_example(name)
    staff.post(f"{HOME}examples/{name}/", {"namespace": namespace.pk, "open": "1"})
    assert Graph.objects.count() == 1


def test_an_unknown_example_is_no_server_error(staff, namespace):
    answer = staff.post(f"{HOME}examples/nonsense/", {"namespace": namespace.pk}, follow=True)
    assert answer.status_code == 200
