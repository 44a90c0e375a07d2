"""The examples can be started, and they do what they show."""

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
from runs.engine.start import RunOptions, start_run
from runs.models import Run, State
from tests.support.clusters import until
from tests.support.flow_client import HOME
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


def test_the_polling_example_asks_until_it_is_ready(staff, namespace, drain, settings):
    settings.ALLOW_PRIVATE_ADDRESSES = True
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = json.dumps({"state": "ready" if len(asked) > 2 else "busy"}).encode()
            self.send_response(500 if len(asked) == 1 else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        graph = examples.put("api-polling", namespace, SYSTEM)
        run = start_run(
            graph,
            RunOptions(
                inputs={
                    "url": f"http://127.0.0.1:{server.server_port}/",
                    "until": 'body.state == "ready"',
                }
            ),
        )
        for _ in range(5):
            State.objects.filter(run=run, status="CREATED").update(
                due_at=timezone.now() - timedelta(minutes=1)
            )
            drain()
    finally:
        server.shutdown()
        server.server_close()
    run.refresh_from_db()
    assert (run.status, len(asked)) == ("completed", 3), (
        "a failure that was retried, a busy answer, and the ready one"
    )
    assert run.retried_count == 1


@pytest.mark.django_db(transaction=True)
def test_the_langgraph_example_asks_on_the_runs_page_and_its_thread_is_a_run(
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


@pytest.mark.parametrize("name", ["approval", "fan-out", "flight-delays"])
def test_examples_run(name, staff, namespace, drain):
    answer = staff.post(f"{HOME}examples/{name}/", {"namespace": namespace.pk, "run_id": "one"})
    run = Run.objects.get()
    assert answer["Location"].endswith(f"/run/{run.pk}/")
    drain()
    run.refresh_from_db()
    if name == "approval":
        assert by_node(run)["approve"] == ["CREATED"]
        assert run.initial_data == {"text": "We open on Monday"}
    elif name == "flight-delays":
        assert run.status == "completed"
        assert run.artifacts.filter(name="flight_delays.zip").exists()
    else:

        def ended():
            State.objects.filter(run=run, status="CREATED", due_at__isnull=False).update(
                due_at=timezone.now() - timedelta(minutes=1)
            )
            drain()
            return Run.objects.get(pk=run.pk).ended

        until(ended)
        assert by_node(run)["confirm"] == ["SUCCESS"] * 4
        assert by_node(run)["report"] == ["SUCCESS"], "one report on all"
    staff.post(f"{HOME}examples/{name}/", {"namespace": namespace.pk, "open": "1"})
    assert Graph.objects.count() == 1
    assert (
        staff.post(
            f"{HOME}examples/nonsense/", {"namespace": namespace.pk}, follow=True
        ).status_code
        == 200
    )
    assert set(examples.EXAMPLES) >= {name}
