"""Nothing of what a deleted run was about stays, whichever way it was deleted.

A marker is planted in everything about a run. After the deletion every column of every table and
every file is searched for it. The run's id stays, in its tombstone and in the audit trail.
"""

import json
from datetime import timedelta

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from graphs.auth.callers import SYSTEM, caller_of_user
from graphs.models import IdempotencyKey
from runs.actions import annotate, bulk, bulk_runner, delete, retention
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import (
    AuditEntry,
    BulkResult,
    Checkpoint,
    CheckpointBlob,
    CheckpointWrite,
    LogLine,
    Run,
    RunNote,
    State,
    Tombstone,
    ToolResult,
)

pytestmark = pytest.mark.django_db(transaction=True)
MARK = "MARK-OF-THE-RUN"
LIST = "/admin/run-manager/runs"


@pytest.fixture
def client():
    user = User.objects.create_superuser("ann", password="ann")
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def run(client, publish, drain):
    """A run with a marker in everything about it."""
    graph = publish("e>f", kinds={"e": "test.emit", "f": "test.fail"})
    body = {
        "run_id": "the-run", "name": MARK, "inputs": {"a": MARK}, "labels": {"team": MARK},
        "metadata": {"m": MARK},
    }  # fmt: skip
    answer = client.post(
        f"/graphs/{graph.pk}/run", body, "application/json", headers={"Idempotency-Key": "k"}
    )
    assert answer.status_code == 200, answer.content
    drain()
    run = Run.objects.get()
    assert client.get("/runs/the-run").status_code == 200
    plant(run)
    ann = caller_of_user(User.objects.get(), "page")
    label = bulk.ask("label", {"pk": [run.pk]}, ann, {"add": {"seen": "yes"}})
    bulk_runner.run_inline(label)
    BulkResult.objects.update(reason=MARK)
    annotate.set_status(run, SYSTEM, "failed", MARK)
    run.refresh_from_db()
    return run


def plant(run):
    of_run = {"run": run, "type": "json"}
    Run.objects.update(sop=MARK, purpose=MARK, store={"s": MARK}, data={"d": MARK})
    State.objects.update(outputs={"o": MARK}, answer={"a": MARK}, waiting_for={"question": MARK})
    LogLine.objects.create(run=run, message=MARK)
    RunNote.objects.create(run=run, author="ann", text=MARK)
    ToolResult.objects.create(run=run, key=MARK, digest="d", result=MARK)
    Checkpoint.objects.create(**of_run, checkpoint_id="c", body=MARK.encode(), metadata={"m": MARK})
    CheckpointBlob.objects.create(**of_run, channel=MARK, version="1", body=MARK.encode())
    CheckpointWrite.objects.create(
        **of_run, checkpoint_id="c", task_id="t", idx=0, channel=MARK, body=MARK.encode()
    )
    with default_storage.open(run.artifacts.get().file, "wb") as file:
        file.write(MARK.encode())
    IdempotencyKey.objects.update(answer=json.dumps({"id": run.run_id, "name": MARK}))


def tables_with_marker():
    """The columns of all tables that hold the marker."""
    found = set()
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            for value in model.objects.values_list(field.attname, flat=True):
                text = value if isinstance(value, bytes | memoryview) else str(value).encode()
                if MARK.encode() in bytes(text):
                    found.add(f"{model.__name__}.{field.name}")
    return found


def files_with_marker(folder=""):
    folders, files = default_storage.listdir(folder)
    found = []
    for name in files:
        path = f"{folder}/{name}".lstrip("/")
        with default_storage.open(path) as file:
            if MARK in path or MARK.encode() in file.read():
                found.append(path)
    for name in folders:
        found += files_with_marker(f"{folder}/{name}".lstrip("/"))
    return found


def by_page(client, run):
    url = reverse("run_manager_bulk", args=["delete"])
    client.post(url, {"run": [run.pk], "confirmed": "1"})


def by_api(client, run):
    client.delete(f"/runs/{run.run_id}")


def by_list(client, run):
    client.delete(LIST, {"thread_ids": [run.run_id]}, "application/json")


def by_bulk_operation(client, run):
    body = {"action": "delete", "ids": [run.run_id]}
    client.post("/admin/run-manager/bulk-operations", body, "application/json")
    bulk_runner.run_waiting(10)


def by_age(client, run):
    Run.objects.update(created_at=timezone.now() - timedelta(days=9))
    with override_settings(STATE_MANAGER={**settings.STATE_MANAGER, "RETENTION_DAYS": 1}):
        retention.delete_old()
    bulk_runner.run_waiting(10)


def with_its_graph(client, run):
    client.delete(f"/graphs/{run.graph_id}")


@pytest.mark.parametrize(
    "way", [by_page, by_api, by_list, by_bulk_operation, by_age, with_its_graph]
)
def test_nothing_of_a_deleted_run_stays(client, run, way):
    planted = tables_with_marker()
    assert {"AuditEntry.detail", "BulkResult.name", "BulkResult.reason"} <= planted
    assert {"IdempotencyKey.answer", "Run.initial_data", "CheckpointWrite.body"} <= planted
    assert files_with_marker()
    way(client, run)
    assert not Run.objects.exists()
    assert Tombstone.objects.get().run_id == "the-run"
    assert tables_with_marker() == set()
    assert files_with_marker() == []
    acts = AuditEntry.objects.filter(run=run.pk).values_list("action", flat=True)
    assert {"start", "set_status"} <= set(acts)


def test_the_search_for_what_outlives_a_run_uses_an_index(run):
    with connection.cursor() as cursor:
        explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
        if connection.vendor == "postgresql":
            cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"{explain} UPDATE statemanager_runs_bulkresult SET name = '' WHERE run = 1")
        assert "sm_result_of_run" in str(cursor.fetchall())
        if connection.vendor == "postgresql":
            cursor.execute("RESET enable_seqscan")


def test_a_deletion_leaves_other_runs_as_they_are(run, publish):
    other = start_run(publish("a", name="other"), RunOptions(run_id="other", name=MARK))
    AuditEntry.objects.record(SYSTEM, "label", other, MARK)
    delete.delete_run(run)
    assert AuditEntry.objects.filter(run=other.pk, detail=MARK).exists()
