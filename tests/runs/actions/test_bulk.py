"""Bulk operations: which runs they change, and what happens if their runner dies or stops."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.db import connection, connections, transaction
from django.utils import timezone

from graphs.auth.callers import SYSTEM, Caller, caller_of_user
from graphs.definition import errors
from runs.actions import annotate, bulk, bulk_runner, delete, retention
from runs.core import statuses
from runs.engine.new_run import RunOptions
from runs.engine.node_context import run_folder
from runs.engine.start import start_outside, start_run
from runs.models import AuditEntry, BulkOperation, BulkResult, LogLine, Run, State, Tombstone
from tests.support.clusters import supervised, until

pytestmark = pytest.mark.django_db
NOBODY = Caller("nobody", frozenset({"read"}), None, rights=frozenset({"view"}))
COMMAND = SYSTEM.with_door("command")


@pytest.fixture
def ended(namespace):
    """Thirty runs that have ended."""
    runs = [start_outside(namespace, RunOptions(run_id=f"thread_{at:03d}")) for at in range(30)]
    Run.objects.update(status="completed", finished_at=timezone.now())
    return runs


def carry_out(operation):
    """Run all waiting operations, and return this one with its results."""
    while bulk_runner.run_waiting(60):
        pass
    operation.refresh_from_db()
    return operation


def test_an_operation_changes_the_runs_that_matched_when_it_was_requested(namespace, ended):
    operation = bulk.ask("archive", {"status": ["completed"]}, COMMAND)
    later = start_outside(namespace, RunOptions(run_id="later"))
    Run.objects.filter(pk=later.pk).update(status="completed", finished_at=timezone.now())
    carry_out(operation)
    assert (operation.status, operation.total) == ("done", 30)
    assert (operation.done, operation.failed) == (30, 0)
    assert list(Run.objects.filter(archived_at=None)) == [later]
    assert AuditEntry.objects.filter(action="archive", operation=operation.pk).count() == 30


def test_a_failure_is_listed_with_its_reason_and_can_be_retried(namespace, ended):
    active = start_outside(namespace, RunOptions(run_id="active"))
    operation = carry_out(bulk.ask("archive", {"pk": [active.pk, ended[0].pk]}, COMMAND))
    assert (operation.done, operation.failed) == (1, 1)
    failed = operation.results.get(done=False)
    assert (failed.run_id, failed.code) == ("active", "conflict")
    assert "only runs that have ended" in failed.reason
    Run.objects.filter(pk=active.pk).update(status="completed", finished_at=timezone.now())

    second = carry_out(bulk.retry(operation, COMMAND))
    assert (second.total, second.done, second.failed) == (1, 1, 0)
    with pytest.raises(errors.Conflict, match="No run of this operation failed"):
        bulk.retry(second, COMMAND)


def test_a_caller_without_the_right_is_refused(ended):
    with pytest.raises(errors.Forbidden, match="nobody may not delete runs"):
        bulk.ask("delete", {}, NOBODY)


def test_a_caller_who_loses_the_right_meanwhile_changes_no_run(ended, django_user_model):
    user = django_user_model.objects.create_superuser("eve")
    operation = bulk.ask("delete", {}, caller_of_user(user, "page"))
    user.is_superuser = user.is_staff = False
    user.save()
    carry_out(operation)
    assert Run.objects.count() == 30
    assert operation.done == 0


def test_a_stopped_operation_leaves_the_remaining_runs_alone(ended):
    operation = bulk.ask("delete", {}, COMMAND)
    bulk.stop(operation, COMMAND)
    carry_out(operation)
    assert (operation.status, Run.objects.count()) == ("stopped", 30)
    with pytest.raises(errors.Conflict, match="is over"):
        bulk.stop(operation, COMMAND)


def test_a_double_click_makes_one_operation(ended):
    key = uuid.uuid4()
    first = bulk.ask("archive", {}, COMMAND, idempotency_key=key)
    second = bulk.ask("archive", {}, COMMAND, idempotency_key=key)
    assert first.pk == second.pk
    assert BulkOperation.objects.count() == 1


def test_impossible_operations_are_refused(ended):
    for action, query, params, reason, message in (
        ("explode", {}, {}, "", "The action is one of"),
        ("set_status", {}, {"status": "completed"}, "", "and a reason"),
        ("set_status", {}, {"status": "running"}, "why", "needs one of"),
        ("label", {}, {}, "", "which labels"),
        ("label", {}, {"add": 0, "remove": ["x"]}, "", "maps labels"),
        ("label", {}, {"add": {"x": "1"}, "remove": ["x"]}, "", "added and removed"),
        ("export", {}, {"columns": 0}, "", "columns are some of"),
        ("export", {}, {"ordering": 0}, "", "is a text"),
        ("delete", {"status": ["WHAT"]}, {}, "", "is none of"),
    ):
        with pytest.raises(errors.StateManagerError, match=message):
            bulk.ask(action, query, COMMAND, params, reason)
    assert not BulkOperation.objects.exists()


def test_an_operation_that_is_taken_over_changes_no_run_twice(publish, run_graph):
    """The runner that lost the operation notices it at its next run, and rolls that run back."""
    runs = [run_graph("a", RunOptions(run_id=f"r{at}")) for at in range(3)]
    operation = bulk.ask("rerun", {"pk": [run.pk for run in runs]}, COMMAND)
    slow = bulk_runner._take(BulkOperation.objects.filter(pk=operation.pk))
    assert slow is not None
    BulkOperation.objects.filter(pk=operation.pk).update(
        lease_expires_at=timezone.now() - timedelta(seconds=1)
    )
    carry_out(operation)
    assert operation.done == 3
    bulk_runner.run_until(slow, float("inf"))
    assert Run.objects.filter(trigger="rerun").count() == 3
    assert BulkResult.objects.count() == 3


def test_labels_and_statuses_are_set(namespace, ended):
    carry_out(bulk.ask("label", {"pk": [ended[0].pk]}, COMMAND, {"add": {"team": "x"}}))
    ended[0].refresh_from_db()
    assert ended[0].labels == {"team": "x"}

    query = {"search": ["label:team=x"]}
    carry_out(bulk.ask("set_status", query, COMMAND, {"status": "failed"}, "wrong numbers"))
    ended[0].refresh_from_db()
    assert (ended[0].status, ended[0].error_message) == ("failed", "wrong numbers")
    assert "completed → failed: wrong numbers" in AuditEntry.objects.get(action="set_status").detail


def test_an_export_is_a_file_that_is_deleted_after_a_day(namespace, ended):
    Run.objects.filter(pk=ended[0].pk).update(status="failed")
    export = carry_out(bulk.ask("export", {"status": ["completed"]}, COMMAND, {"format": "jsonl"}))
    assert (export.status, export.done) == ("done", 29)
    with default_storage.open(export.file) as file:
        assert file.read().count(b"\n") == 29
    BulkOperation.objects.update(finished_at=timezone.now() - timedelta(days=2))
    assert bulk_runner.forget_files() == 1
    assert not default_storage.exists(export.file)


def test_setting_a_status_cancels_unfinished_states(publish, drain):
    run = start_run(publish("a>b"))
    annotate.set_status(run, SYSTEM, "completed", "done by hand elsewhere")
    assert (run.status, run.progress, run.error_message) == ("completed", 100, "")
    assert run.states.get().status == statuses.CANCELLED
    assert drain() == 0
    assert run.finished_at
    with pytest.raises(errors.Conflict, match="completed already"):
        annotate.set_status(run, SYSTEM, "completed", "again")


def test_nothing_brings_a_deleted_run_back(namespace, publish, run_graph):
    run = run_graph("a", RunOptions(run_id="mine"))
    delete.delete_run(run)
    for start in (
        lambda: start_run(publish("a"), RunOptions(run_id="mine")),
        lambda: start_outside(namespace, RunOptions(run_id="mine")),
    ):
        with pytest.raises(errors.Gone, match=r"was deleted .* by system"):
            start()
    assert not Run.objects.exists()
    Tombstone.objects.update(at=timezone.now() - timedelta(days=31))
    delete.sweep()
    assert start_outside(namespace, RunOptions(run_id="mine")).pk


def test_files_are_deleted_even_if_the_process_dies_before_that(run_graph, monkeypatch):
    run = run_graph("a", kinds={"a": "test.emit"})
    folder = run_folder(run.pk)
    monkeypatch.setattr(delete, "remove_files", lambda runs: None)
    delete.delete_run(run)
    assert default_storage.exists(folder)
    monkeypatch.undo()
    assert delete.sweep() == 0, "a deletion that is still going on is left alone"
    Tombstone.objects.update(at=timezone.now() - timedelta(minutes=2))
    assert delete.sweep() == 1
    assert not default_storage.exists(folder)
    assert delete.sweep() == 0


@pytest.mark.races
@pytest.mark.django_db(transaction=True)
def test_a_locked_run_is_reported_and_the_others_are_deleted(ended, monkeypatch):
    if connection.vendor == "sqlite":
        return  # SQLite has no row locks.
    monkeypatch.setattr(delete, "LOCK_SECONDS", 1)
    locked = threading.Event()
    release = threading.Event()

    def lock_one_run():
        with transaction.atomic():
            list(Run.objects.select_for_update().filter(pk=ended[4].pk))
            locked.set()
            release.wait(30)
        connections.close_all()

    thread = threading.Thread(target=lock_one_run)
    thread.start()
    try:
        assert locked.wait(10)
        operation = carry_out(bulk.ask("delete", {}, COMMAND))
        with pytest.raises(errors.Conflict, match="Something else locked it"):
            delete.delete_run(ended[4])
    finally:
        release.set()
        thread.join()
    assert (operation.done, operation.failed) == (29, 1)
    assert operation.results.get(done=False).code == "locked"
    assert list(Run.objects.values_list("pk", flat=True)) == [ended[4].pk]


@pytest.mark.cluster
@pytest.mark.django_db(transaction=True)
def test_runs_are_deleted_while_a_cluster_executes_them(publish):
    """Nothing that belongs to the 500 runs is left over or comes back."""
    graph = publish(
        "f>w",
        kinds={"f": "test.each", "w": "test.work"},
        inputs={"f": {"items": list(range(4))}, "w": {"seconds": 0.02}},
    )
    other = start_run(publish("a", name="other"))
    for at in range(500):
        start_run(graph, RunOptions(run_id=f"r{at}"))
    with supervised():
        until(lambda: State.objects.filter(run__graph=graph, status="QUEUED").exists())
        operation = bulk.ask("delete", {"graph": ["graph"]}, COMMAND, {"active": "delete"})
        until(lambda: BulkOperation.objects.get(pk=operation.pk).over, 90)
        until(lambda: Run.objects.get(pk=other.pk).ended)
    operation.refresh_from_db()
    assert (operation.total, operation.done, operation.failed) == (500, 500, 0)
    assert list(Run.objects.values_list("pk", flat=True)) == [other.pk]
    for model in delete.RUN_CHILDREN:
        assert not model.objects.exclude(run=other.pk).exists(), model
    assert LogLine.objects.filter(run=other.pk).exists()
    assert Tombstone.objects.count() == 500


def test_old_runs_are_deleted_once_a_day(publish, drain, conf):
    graph = publish("a")
    _, archived, recent, busy = (
        start_run(graph, RunOptions(run_id=name)) for name in ("old", "archived", "recent", "busy")
    )
    drain()
    past = timezone.now() - timedelta(days=40)
    Run.objects.exclude(pk=recent.pk).update(created_at=past)
    Run.objects.filter(pk=archived.pk).update(archived_at=past)
    Run.objects.filter(pk=busy.pk).update(status="running", finished_at=None, pending_count=1)
    assert retention.delete_old() is None, "without a setting nothing is deleted"
    conf.RETENTION_DAYS = 30
    operation = retention.delete_old()
    assert retention.delete_old() == operation, "several supervisors share one operation"
    assert (carry_out(operation).done, operation.actor) == (2, "retention")
    assert set(Run.objects.values_list("run_id", flat=True)) == {recent.run_id, busy.run_id}
    assert AuditEntry.objects.filter(action="delete", actor__startswith="command").count() == 2
    assert retention.delete_old(timezone.now() + timedelta(days=1)) is None
