"""No file is read, written or deleted within a transaction: the storage may be slow, and a
transaction keeps others from writing.

`tests.support.storage_io` watches the storage in all tests. Here are the doors to it that have a
transaction near.
"""

import io
import json

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client
from rest_framework.test import APIClient

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.models import Dataset, DatasetTable
from graphs.services import datasets
from graphs.services.dataset_files import Source
from runs.actions import bulk, bulk_runner, delete, partial_rerun
from runs.actions.rerun import RerunOptions, rerun, rerun_failures
from runs.engine import retry
from runs.engine.node_context import run_folder
from runs.health import stored_files
from runs.models import Run
from tests import nodes

pytestmark = pytest.mark.django_db
FAILED = RerunOptions(failed=True)
COMMAND = SYSTEM.with_door("command")


@pytest.fixture(autouse=True)
def _broken(monkeypatch, own_storage):
    monkeypatch.setattr(nodes, "broken", True)
    monkeypatch.setattr(stored_files, "is_old", lambda name: True)


@pytest.fixture
def run(run_graph):
    """A run with a file, of which a node failed."""
    kinds = {"a": "test.emit", "b": "test.outage"}
    return run_graph("a>b", kinds=kinds, settings={"rerun_on_failure": {"times": 1}})


def assert_complete(new):
    """A rerun has files of its own, and nothing else was left in the storage."""
    assert new.artifacts.get().file.startswith(f"{run_folder(new.pk)}/")
    with default_storage.open(new.artifacts.get().file) as content:
        assert content.read() == b"hello"
    assert_nothing_is_left()


def assert_nothing_is_left():
    assert list(stored_files.without_run()) == []
    assert list(stored_files.without_row()) == []


def test_the_storage_is_watched():
    default_storage.save("outside", ContentFile(b"x"))
    for call in (default_storage.open, default_storage.delete, default_storage.exists):
        with transaction.atomic(), pytest.raises(AssertionError, match="within a transaction"):
            call("outside")
    with transaction.atomic(), pytest.raises(AssertionError, match="within a transaction"):
        default_storage.save("inside", ContentFile(b"x"))


def by_verb(run, client):
    rerun(run, SYSTEM, FAILED)


def by_request(run, client):
    client.post(f"/rerun/{run.run_id}", {"from": "failed"}, format="json").json()


def by_repeatable_request(run, client):
    for _ in range(2):
        headers = {"Idempotency-Key": "k"}
        path = f"/rerun/{run.run_id}"
        response = client.post(path, {"from": "failed"}, format="json", headers=headers)
        assert response.status_code == 200


def by_bulk_operation(run, client):
    bulk.ask("rerun", {"pk": [run.pk]}, COMMAND, {"from": "failed"})
    bulk_runner.run_waiting(10)


def automatically(run, client):
    assert rerun_failures() == 1


@pytest.mark.parametrize(
    "ask", [by_verb, by_request, by_repeatable_request, by_bulk_operation, automatically]
)
def test_a_partial_rerun_copies_files_before_its_transaction(run, make_key, ask):
    ask(run, APIClient(headers={"X-API-Key": make_key("run")}))
    assert_complete(Run.objects.exclude(pk=run.pk).get())


@pytest.mark.django_db(transaction=True)
def test_what_was_copied_for_a_rerun_that_fails_is_removed(run, monkeypatch):
    with pytest.raises(errors.Conflict, match="Other inputs"):
        rerun(run, SYSTEM, RerunOptions(failed=True, inputs={}))
    monkeypatch.setattr(partial_rerun.store, "insert_states_now", lambda states: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rerun(run, SYSTEM, FAILED)
    bulk.ask("rerun", {"pk": [run.pk]}, COMMAND, {"from": "failed"})
    bulk_runner.run_waiting(10)
    assert Run.objects.get() == run
    assert_nothing_is_left()


def test_a_run_that_changes_while_its_files_are_copied_is_not_rerun(run, monkeypatch):
    save = Storage.save

    def meanwhile(*args):
        retry.retry_failed(run, SYSTEM)
        return save(*args)

    monkeypatch.setattr(Storage, "save", meanwhile)
    with pytest.raises(errors.Conflict, match="once it has ended"):
        rerun(run, SYSTEM, FAILED)
    assert_nothing_is_left()


def test_a_storage_that_fails_fails_the_rerun_and_not_the_bulk_operation(run, monkeypatch):
    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr(Storage, "save", fail)
    operation = bulk.ask("rerun", {"pk": [run.pk]}, COMMAND, {"from": "failed"})
    bulk_runner.run_waiting(10)
    operation.refresh_from_db()
    assert (operation.status, operation.failed) == ("done", 1)
    assert "no space left" in operation.results.get().reason
    assert_nothing_is_left()


# --- datasets -------------------------------------------------------------------------------------


def csv():
    return SimpleUploadedFile("rows.csv", b"a,b\n1,2\n")


def upload(namespace, make_key, admin_client):
    client = APIClient(headers={"X-API-Key": make_key("run")})
    for _ in range(2):
        body = {"name": "numbers", "namespace": "alpha", "files": csv()}
        response = client.post(
            "/datasets", body, format="multipart", headers={"Idempotency-Key": "k"}
        )
        assert response.status_code == 201


def add_in_the_admin(namespace, make_key, admin_client):
    form = {"namespace": namespace.pk, "name": "numbers", "upload": csv(), "encoding": "utf-8"}
    inlines = {"tables-TOTAL_FORMS": 0, "tables-INITIAL_FORMS": 0}
    path = "/admin/statemanager_graphs/dataset/add/"
    response = admin_client.post(path, {**form, **inlines})
    assert response.status_code == 302, response.content.decode()


@pytest.mark.parametrize("store", [upload, add_in_the_admin])
def test_the_files_of_a_dataset_are_stored_before_its_transaction(
    namespace, make_key, admin_client, store
):
    store(namespace, make_key, admin_client)
    table = Dataset.objects.get().tables.get()
    with default_storage.open(table.file) as content:
        assert content.read() == b"a,b\n1,2\n"
    folders, _ = default_storage.listdir("datasets")
    assert [f"datasets/{folder}/rows.csv" for folder in folders] == [table.file]


def test_the_admin_asks_for_a_csrf_token(admin_user):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.post("/admin/statemanager_graphs/dataset/add/").status_code == 403


@pytest.mark.django_db(transaction=True)
def test_files_are_deleted_after_the_transaction(run, namespace):
    source = Source("rows.csv", io.BytesIO(b"a,b\n1,2\n"))
    dataset = datasets.load(namespace, "numbers", [source])
    datasets.delete(dataset)
    delete.delete_run(run)
    assert not DatasetTable.objects.exists()
    assert_nothing_is_left()
    assert default_storage.listdir("datasets") == ([], [])


def test_an_export_is_stored_outside_of_a_transaction(run):
    operation = bulk.ask("export", {"pk": [run.pk]}, COMMAND, {"format": "json"})
    bulk_runner.run_waiting(10)
    operation.refresh_from_db()
    with default_storage.open(operation.file) as content:
        assert len(json.load(content)) == 1
