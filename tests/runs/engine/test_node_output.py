"""What nodes print, log and warn, and the tracebacks of those that fail."""

import io
import logging
import sys
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import User
from django.test import Client

from graphs.models import NamespaceMembership
from graphs.services import worker_registration
from runs.engine import node_output, tracebacks
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from tests.support.pages import page_of, text

pytestmark = pytest.mark.django_db


@contextmanager
def caught_output():
    """The output of nodes is caught; what they print goes to the stream as well."""
    stream, stdout = io.StringIO(), sys.stdout
    root = logging.getLogger()
    handlers = list(root.handlers)
    sys.stdout = stream
    node_output.install()
    node_output.install()
    assert len(root.handlers) == len(handlers) + 1
    try:
        yield stream
    finally:
        sys.stdout = stdout
        root.handlers[:] = handlers
        logging.captureWarnings(False)


def lines_of(run):
    lines = run.logs.exclude(identifier="").order_by("pk")
    return list(lines.values_list("level", "message"))


def traces(run):
    lines = run.logs.filter(level="error").order_by("pk").values_list("message", flat=True)
    return [line for line in lines if line.startswith(tracebacks.HEADING)]


@pytest.mark.filterwarnings("default")
def test_what_a_node_prints_logs_and_warns_is_in_the_log_of_its_run(run_graph, caplog):
    caplog.set_level(logging.INFO, "shop")
    with caught_output() as stream:
        run = run_graph("a", kinds={"a": "test.prints"})
        print("later")
    assert run.status == "completed"
    lines = lines_of(run)
    assert lines[:3] == [("info", "one"), ("info", "two"), ("info", "shop.prices: price 5")]
    [(level, warning), done, last] = lines[3:]
    assert level == "warning"
    assert warning.startswith("py.warnings: ")
    assert "UserWarning: old price" in warning
    assert done == ("info", "done count=3 name=a b")
    assert last == ("info", "no end")
    assert stream.getvalue() == "one\ntwo\nno endlater\n", "it goes where it went before"


@pytest.mark.filterwarnings("default")
def test_a_long_line_without_an_end_is_cut_in_pieces(run_graph):
    data = {"a": {"inputs": {"letters": 30_000}}}
    with caught_output():
        run = run_graph("a", kinds={"a": "test.prints"}, data=data)
    printed = [message for _, message in lines_of(run) if "x" in message and "price" not in message]
    assert max(map(len, printed)) <= node_output.MAX_LINE


def test_a_failed_node_leaves_its_traceback(run_graph, admin_client):
    run = run_graph("a", kinds={"a": "test.descend"})
    [trace] = traces(run)
    assert "in descend" in trace
    assert trace.index("KeyError: 'missing'") < trace.index("ValueError: no price")
    assert "The above exception was the direct cause" in trace
    assert "node_threads.py" not in trace, "it begins with the node"
    assert "a value of a local variable" not in trace
    assert run.logs.get(message=trace).state == run.states.get().pk
    page = text(admin_client.get(page_of(run)))
    assert "<summary>Traceback</summary>" in page
    assert "down(left - 1)" in page


def test_a_deep_recursion_is_shortened(run_graph):
    run = run_graph("a", kinds={"a": "test.descend"}, data={"a": {"inputs": {"depth": 500}}})
    [trace] = traces(run)
    assert len(trace) < tracebacks.MAX_CHARACTERS + 100
    assert trace.startswith(tracebacks.HEADING)
    assert "ValueError: no price" in trace


def test_siblings_and_attempts_that_fail_alike_leave_one_traceback(publish, drain, admin_client):
    run = start_run(
        publish(
            "split>a",
            kinds={"split": "fan_out", "a": "test.fail"},
            data={
                "split": {"inputs": {"items": [1, 2, 3]}},
                "a": {"retry": {"max_retries": 1, "backoff_factor": 0.001}},
            },
        ),
        RunOptions(run_id="alike"),
    )
    while drain():
        pass
    assert run.states.filter(status="ERRORED").count() == 3
    assert len(traces(run)) == 1
    page = text(admin_client.get(page_of(run)))
    assert page.count("<summary>Traceback</summary>") == 1


@pytest.mark.parametrize("how", ["empty", "group", "note"])
def test_the_page_finds_each_kind_of_traceback(run_graph, admin_client, how):
    run = run_graph("a", kinds={"a": "test.raise"}, data={"a": {"inputs": {"how": how}}})
    assert run.logs.filter(message__contains=tracebacks.HEADING).count() == 1
    assert "<summary>Traceback</summary>" in text(admin_client.get(page_of(run)))


@pytest.mark.parametrize("what", ["number", "nan", "lists"])
def test_an_output_that_cannot_be_stored_leaves_none(run_graph, what):
    run = run_graph("a", kinds={"a": "test.return"}, data={"a": {"inputs": {"what": what}}})
    assert run.status == "failed"
    assert traces(run) == []


def test_secrets_in_a_traceback_are_masked(publish, drain, admin_client):
    graph = publish("a", kinds={"a": "test.secret"})
    worker_registration.set_secret(graph, "token", "a-very-secret-value")
    run = start_run(graph)
    drain()
    [trace] = traces(run)
    assert "a-very-secret-value" not in trace
    assert "ValueError: refused •••" in trace


def test_who_sees_no_payloads_sees_no_traceback(run_graph, namespace):
    run = run_graph("a", kinds={"a": "test.descend"})
    user = User.objects.create_user("viewer", is_staff=True)
    NamespaceMembership.objects.create(namespace=namespace, user=user, role="viewer")
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    assert "Traceback" not in text(client.get(page_of(run)))
