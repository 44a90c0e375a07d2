"""A thread is a run: its status, its questions, its failures, and what people may do with it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from django.db import connection, connections, transaction

pytest.importorskip("langgraph.checkpoint.base")
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import interrupt

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.models import Namespace
from runs.actions import delete
from runs.engine import control, counters
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside
from runs.external import documents, updates
from runs.health import verify
from runs.langgraph import status
from runs.langgraph.saver import DjangoSaver
from runs.models import Checkpoint, CheckpointWrite, Run
from runs.queries import wait_reasons
from tests.support import langgraph_apps
from tests.support.checkpoints import place, put
from tests.support.clusters import until

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_application_with_an_interrupt(saver):
    app = langgraph_apps.approval(saver)
    thread = {"configurable": {"thread_id": "order-1"}}
    app.invoke({"amount": 120}, thread)
    run = Run.objects.get(run_id="order-1")
    assert (run.status, run.current_node) == ("paused", "approve")
    assert "interrupt" in wait_reasons.why_waiting(run)[0]
    app.invoke(langgraph_apps.answer("yes"), thread)
    run.refresh_from_db()
    assert (run.status, run.progress) == ("completed", 100)
    assert app.get_state(thread).values["said"] == ["asked", "approved: yes"]


@pytest.fixture
def approved(saver):
    """The run of a thread that asked a question, got its answer, and completed."""
    app = langgraph_apps.approval(saver)
    thread = {"configurable": {"thread_id": "order-1"}}
    app.invoke({"amount": 120}, thread)
    app.invoke(langgraph_apps.answer("yes"), thread)
    return Run.objects.get(run_id="order-1")


def test_the_checkpoints_of_a_thread_are_shown(approved, admin_client, client, make_key):
    run = approved
    assert "order-1" in admin_client.get("/admin/run-manager/").content.decode()
    page = admin_client.get(f"/admin/run-manager/run/{run.pk}/checkpoints/").content.decode()
    newest = run.checkpoints.order_by("-checkpoint_id").first()
    assert newest.checkpoint_id in page
    shown = admin_client.get(
        f"/admin/run-manager/run/{run.pk}/checkpoints/?checkpoint={newest.pk}"
    ).content.decode()
    assert "approved: yes" in shown
    headers = {"X-API-Key": make_key("read")}
    listed = client.get("/runs/order-1/checkpoints", headers=headers).json()["checkpoints"]
    assert len(listed) == run.checkpoints.count()
    detail = client.get(f"/runs/order-1/checkpoints/{newest.checkpoint_id}", headers=headers).json()
    assert detail["values"]["said"] == ["asked", "approved: yes"]


def test_the_run_document_of_a_thread_names_its_checkpoint(approved):
    run = approved
    newest = run.checkpoints.order_by("-checkpoint_id").first()
    assert documents.run_state(run).memory_snapshots == [
        {"checkpoint_ns": "", "checkpoint_id": newest.checkpoint_id}
    ]
    with pytest.raises(errors.Conflict, match="LangGraph"):
        updates.put_run_state(run, documents.run_state(run), SYSTEM)


def test_deleting_a_thread_leaves_nothing_over(own_storage, approved):
    delete.delete_run(approved)
    # Tests whose database was flushed leave folders behind.
    problems = [problem for problem in verify.verify() if "folders" not in problem.label]
    assert not problems
    assert not CheckpointWrite.objects.exists()


def test_a_failed_task_fails_the_run_until_the_thread_continues(saver):
    app = langgraph_apps.fragile(saver)
    thread = {"configurable": {"thread_id": "t"}}
    with pytest.raises(ValueError, match="not yet"):
        app.invoke({"tries": 0}, thread)
    run = Run.objects.get(run_id="t")
    assert (run.status, "not yet" in run.error_message) == ("failed", True)
    langgraph_apps.fragile.ready = True
    try:
        app.invoke(None, thread)
    finally:
        langgraph_apps.fragile.ready = False
    run.refresh_from_db()
    assert (run.status, run.error_message) == ("completed", "")


def test_an_error_that_arrives_before_its_checkpoint_keeps_its_message(saver):
    """LangGraph stores from several threads, so writes may arrive before their checkpoint."""
    before = empty_checkpoint()
    its_own = empty_checkpoint()
    saver.put_writes(
        place("t", checkpoint_id=its_own["id"]), [(status.ERROR, ValueError("not yet"))], "task"
    )
    for checkpoint in (before, its_own):
        saver.put(
            place("t"),
            checkpoint | {"channel_values": {"branch:to:work": None}},
            {"source": "loop", "step": 0},
            {},
        )
        run = Run.objects.get(run_id="t")
        assert (run.status, "not yet" in run.error_message) == ("failed", True)


def test_a_thread_in_the_middle_is_running(saver):
    observed = []
    app = langgraph_apps.watching(
        saver,
        lambda: observed.append(Run.objects.values_list("status", "current_node").get(run_id="t")),
    )
    app.invoke({"said": []}, {"configurable": {"thread_id": "t"}}, durability="sync")
    assert observed == [("running", "look")]
    assert Run.objects.get(run_id="t").status == "completed"


def test_a_cancelled_thread_stops_its_application(saver):
    app = langgraph_apps.approval(saver)
    thread = {"configurable": {"thread_id": "t"}}
    app.invoke({"amount": 1}, thread)
    control.cancel_run(Run.objects.get(run_id="t"), SYSTEM)
    with pytest.raises(errors.Conflict, match="cancelled"):
        app.invoke(langgraph_apps.answer("yes"), thread)
    assert Run.objects.get(run_id="t").status == "cancelled"
    app.invoke({"amount": 2}, thread)
    assert Run.objects.get(run_id="t").status == "paused", "new input starts it again"


def test_many_channels_in_parallel_and_subgraphs(saver):
    app = langgraph_apps.spread(saver)
    result = app.invoke({"items": [1, 2, 3]}, {"configurable": {"thread_id": "t"}})
    assert sorted(result["results"]) == [2, 4, 6]
    assert Checkpoint.objects.filter(run__run_id="t").exclude(ns="").exists()
    assert Run.objects.get(run_id="t").status == "completed"
    saver.copy_thread("t", "copy")
    assert Run.objects.get(run_id="copy").status == "completed"
    assert (
        app.get_state({"configurable": {"thread_id": "copy"}}).values
        == app.get_state({"configurable": {"thread_id": "t"}}).values
    )
    assert (
        len(list(app.get_state_history({"configurable": {"thread_id": "t"}})))
        == Checkpoint.objects.filter(run__run_id="t", ns="").count()
    )


@pytest.mark.races
def test_25_threads_run_at_the_same_time():
    failures = []

    def work(number):
        try:
            saver = DjangoSaver("alpha")
            app = langgraph_apps.approval(saver)
            thread = {"configurable": {"thread_id": f"t{number}"}}
            app.invoke({"amount": number}, thread)
            app.invoke(langgraph_apps.answer(str(number)), thread)
            if app.get_state(thread).values["said"][-1] != f"approved: {number}":
                failures.append((number, app.get_state(thread).values))
        except Exception as error:  # An exception would only end this thread.
            failures.append((number, error))
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(25)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures[:3]
    assert Run.objects.filter(status="completed").count() == 25
    assert Namespace.objects.filter(name="alpha").count() == 1


def test_a_paused_or_cancelled_thread_remains_so(saver):
    config = put(saver, values={"branch:to:a": None})
    run = Run.objects.get(run_id="t")
    assert control.pause_run(run, SYSTEM).status == "paused"
    config = put(
        saver, values={"branch:to:b": None}, parent=config["configurable"]["checkpoint_id"]
    )
    run.refresh_from_db()
    assert (run.status, run.paused) == ("paused", True)
    control.resume_run(run, SYSTEM)
    control.cancel_run(run, SYSTEM)
    put(saver, "other")
    for verb in (
        lambda: saver.prune(["t"]),
        lambda: saver.copy_thread("other", "t"),
        lambda: saver.delete_for_runs(["x"]),
    ):
        verb()
        run.refresh_from_db()
        assert (run.status, run.error_message) == ("cancelled", f"Cancelled by {SYSTEM.label}")


def test_a_thread_cannot_take_over_the_run_of_another_program(saver):
    run = start_outside(Namespace.objects.create(name="alpha"), RunOptions(run_id="theirs"))
    updates.mark(run, "a", "started", SYSTEM)
    with pytest.raises(errors.Conflict, match="another program"):
        put(saver, "theirs")


@pytest.mark.parametrize("app", ["two_questions", "answered_in_vain"])
def test_the_run_ends_as_its_application_did_in_whatever_order_it_is_stored(saver, app):
    """LangGraph stores the answer and the next step of the task from different threads.

    Whichever is stored first, the run must end as the application did.
    """
    expected = {"two_questions": "paused", "answered_in_vain": "failed"}[app]
    app = getattr(langgraph_apps, app)(saver)
    for number in range(40):
        thread = {"configurable": {"thread_id": f"t{number}"}}
        app.invoke({"said": []}, thread)
        with suppress(ValueError):
            app.invoke(langgraph_apps.answer("one"), thread)
    assert list(Run.objects.values_list("status", flat=True)) == [expected] * 40


def test_a_failure_beside_a_question_is_a_failure_with_its_message(saver):
    """In whichever order the two are stored. When the failed task has succeeded, the run waits."""

    def fail():
        raise ValueError("no such order")

    for number, tasks in enumerate(
        ({"a": fail, "b": lambda: interrupt("well?")}, {"a": lambda: interrupt("well?"), "b": fail})
    ):
        thread = {"configurable": {"thread_id": f"t{number}"}}
        with pytest.raises(ValueError, match="order"):
            langgraph_apps.side_by_side(saver, **tasks).invoke({"said": []}, thread)
        run = Run.objects.get(run_id=f"t{number}")
        assert (run.status, "no such order" in run.error_message) == ("failed", True)
        repaired = {name: lambda: "found" for name, task in tasks.items() if task is fail}
        langgraph_apps.side_by_side(saver, **tasks | repaired).invoke(None, thread)
        run.refresh_from_db()
        assert (run.status, run.error_message) == ("paused", "")


def test_a_node_that_waits_for_two_others_keeps_the_run_running(saver):
    app = langgraph_apps.joining(saver)
    thread = {"configurable": {"thread_id": "t"}}
    app.invoke({"said": []}, thread)
    run = Run.objects.get(run_id="t")
    assert (run.status, run.current_node) == ("running", "c")
    app.invoke(None, thread)
    run.refresh_from_db()
    assert (run.status, app.get_state(thread).values["said"]) == ("completed", ["a", "b", "c"])


def test_a_run_that_another_program_takes_meanwhile_is_refused(saver):
    """The saver checks whose run it is after it has locked the run."""
    run = start_outside(Namespace.objects.create(name="alpha"), RunOptions(run_id="both"))
    document = documents.run_state(run)
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        counters.lock([run.pk])
        other = pool.submit(put, DjangoSaver("alpha"), "both")
        until(lambda: connection.vendor == "sqlite" or _lock_is_awaited(), 10)
        updates.put_run_state(run, document, SYSTEM)
    with pytest.raises(errors.Conflict, match="another program"):
        other.result(30)
    assert not Checkpoint.objects.filter(run=run, ns="").exists()


def _lock_is_awaited():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()[0] > 0
