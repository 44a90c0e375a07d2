"""`Idempotency-Key`: a repeated request gets the first answer and is not carried out again."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from django.utils import timezone
from rest_framework.test import APIClient

from graphs.auth.callers import SYSTEM
from graphs.models import Dataset, Graph, IdempotencyKey, Namespace, NamespaceMembership
from graphs.models.idempotency import forget_old
from runs.actions import delete
from runs.api.serializers import StartedSerializer
from runs.models import BulkOperation, Run, RunTemplate
from tests.support.definitions import definition

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(make_key):
    return APIClient(headers={"X-API-Key": make_key("run")})


def post(client, path, body, key):
    return client.post(path, body, format="json", headers={"Idempotency-Key": key})


def start(client, graph, key, body=None):
    return post(client, f"/graphs/{graph.pk}/run", body or {}, key)


def test_a_repeat_gets_the_first_answer(client, publish):
    graph = publish("a")
    first = start(client, graph, "k")
    second = start(client, graph, "k")
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert "Idempotency-Replayed" not in first
    assert second["Idempotency-Replayed"] == "true"
    assert Run.objects.count() == 1


def test_another_key_is_another_request(client, publish):
    graph = publish("a")
    assert start(client, graph, "k").json() != start(client, graph, "another").json()
    assert Run.objects.count() == 2


def test_a_key_is_refused_for_a_request_with_another_body_or_query(client, publish):
    graph = publish("a")
    start(client, graph, "k")
    assert start(client, graph, "k", {"labels": {"a": "b"}}).status_code == 422
    assert post(client, f"/graphs/{graph.pk}/run?dataset_id=1", {}, "k").status_code == 422
    assert Run.objects.count() == 1


def test_two_callers_may_use_the_same_key(client, publish, make_key):
    graph = publish("a")
    other = APIClient(headers={"X-API-Key": make_key("run")})
    assert start(client, graph, "k").json() != start(other, graph, "k").json()


def test_a_stored_answer_is_refused_without_an_api_key(client, publish):
    graph = publish("a")
    start(client, graph, "k")
    assert start(APIClient(), graph, "k").status_code == 401


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\tb"])
def test_an_invalid_key_is_refused(client, publish, key):
    assert start(client, publish("a"), key).status_code == 422
    assert not Run.objects.exists()


def test_a_refused_request_does_not_use_up_its_key(client, publish):
    graph = publish("a")
    assert start(client, graph, "k", {"run_id": "a/b"}).status_code == 422
    assert start(client, graph, "k", {"run_id": "good"}).status_code == 200
    assert start(client, graph, "k", {"run_id": "good"})["Idempotency-Replayed"] == "true"


CREATE_REQUESTS = [
    ("/graphs", {"name": "new", "namespace": "alpha", **definition("a")}, Graph),
    ("/start", {"sop": "s", "initial_data": {}, "namespace": "alpha"}, Run),
    ("/templates", {"name": "t"}, RunTemplate),
    ("/v0/namespace/alpha/graph/graph/trigger", {}, Run),
    (
        "/admin/run-manager/bulk-operations",
        {"action": "archive", "filter": {}},
        BulkOperation,
    ),
]


@pytest.mark.parametrize(
    ("path", "body", "model"), CREATE_REQUESTS, ids=[path for path, _, _ in CREATE_REQUESTS]
)
def test_every_request_that_creates_something_can_be_repeated(make_key, publish, path, body, model):
    graph = publish("a")
    before = model.objects.count()
    if path == "/templates":
        body = {**body, "graph_id": graph.pk}
    key = make_key("admin", ()) if path.startswith("/admin/") else make_key("run")
    client = APIClient(headers={"X-API-Key": key})
    first = post(client, path, body, "k")
    second = post(client, path, body, "k")
    assert first.status_code < 300, first.json()
    assert (second.status_code, second.json()) == (first.status_code, first.json())
    assert second["Idempotency-Replayed"] == "true"
    assert model.objects.count() == before + 1


def test_an_upload_can_be_repeated(client, namespace):
    for replayed in (False, True):
        csv = SimpleUploadedFile("rows.csv", b"a,b\n1,2\n")
        body = {"name": "data", "namespace": "alpha", "files": csv}
        headers = {"Idempotency-Key": "k"}
        answer = client.post("/datasets", body, format="multipart", headers=headers)
        assert answer.status_code < 300, answer.json()
        assert ("Idempotency-Replayed" in answer) == replayed
    assert Dataset.objects.count() == 1


def test_answers_are_forgotten_after_a_day(client, publish):
    graph = publish("a")
    first = start(client, graph, "k").json()
    forget_old()
    assert start(client, graph, "k").json() == first
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    forget_old()
    assert start(client, graph, "k").json() != first


@pytest.mark.django_db(transaction=True)
def test_a_process_that_dies_leaves_both_or_neither(client, publish, monkeypatch):
    """The process dies after the run was made and before the answer was sent."""
    graph = publish("a")
    to_representation = StartedSerializer.to_representation

    class Killed(BaseException):
        pass

    def die(serializer, run):
        raise Killed

    monkeypatch.setattr(StartedSerializer, "to_representation", die)
    with pytest.raises(Killed):
        start(client, graph, "k")
    assert not Run.objects.exists(), "the run was rolled back together with the answer"
    monkeypatch.setattr(StartedSerializer, "to_representation", to_representation)
    first = start(client, graph, "k")
    assert first.status_code == 200
    assert start(client, graph, "k").json() == first.json()
    assert Run.objects.count() == 1


@pytest.mark.races
@pytest.mark.django_db(transaction=True)
def test_a_repeat_while_the_first_request_is_still_running(client, publish, monkeypatch):
    """PostgreSQL refuses it for now. SQLite has one writer, so it waits and gets the answer."""
    graph = publish("a")
    to_representation = StartedSerializer.to_representation
    first_is_running, let_first_finish = threading.Event(), threading.Event()

    def slow(serializer, run):
        first_is_running.set()
        assert let_first_finish.wait(20)
        return to_representation(serializer, run)

    def start_in_thread():
        try:
            return start(client, graph, "k")
        finally:
            connections.close_all()

    monkeypatch.setattr(StartedSerializer, "to_representation", slow)
    with ThreadPoolExecutor(2) as threads:
        try:
            first = threads.submit(start_in_thread)
            assert first_is_running.wait(20)
            second = threads.submit(start_in_thread)
            if connection.vendor == "postgresql":
                refused = second.result(20)
                assert (refused.status_code, refused["Retry-After"]) == (409, "1")
                assert refused.json()["status"] == 409
                assert "still being answered" in refused.json()["detail"]
                assert not Run.objects.exists(), "the first request is not committed yet"
                assert IdempotencyKey.objects.get().status is None
        finally:
            let_first_finish.set()
    repeat = second.result() if connection.vendor == "sqlite" else start(client, graph, "k")
    assert (first.result().status_code, repeat.status_code) == (200, 200)
    assert repeat["Idempotency-Replayed"] == "true"
    assert repeat.json() == first.result().json()
    assert Run.objects.get().run_id == repeat.json()["id"]
    assert IdempotencyKey.objects.get().status == 200


@pytest.mark.races
@pytest.mark.django_db(transaction=True)
def test_parallel_repeats_make_one_run_for_each_key(publish, make_key, request):
    """Twenty threads use the same keys: 20, or 1,000 if `--chaos-kills` is above 100."""
    graph = publish("a")
    api_key = make_key("run")
    keys = 1000 if request.config.getoption("--chaos-kills") > 100 else 20
    run_ids: dict[int, set[str]] = {number: set() for number in range(keys)}
    failures = []

    def start_all():
        client = APIClient(headers={"X-API-Key": api_key})
        for number in range(keys):
            while (answer := start(client, graph, f"key {number}")).status_code == 409:
                pass  # another thread's request with this key is still running
            if answer.status_code != 200:
                failures.append(answer.json())
            run_ids[number].add(answer.json().get("id", ""))
        connections.close_all()

    threads = [threading.Thread(target=start_all) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    assert all(len(ids) == 1 and ids != {""} for ids in run_ids.values())
    assert Run.objects.count() == keys


def test_a_stored_answer_is_refused_after_the_caller_lost_the_right(publish, django_user_model):
    graph = publish("a")
    user = django_user_model.objects.create_user("ann", is_staff=True)
    member = NamespaceMembership.objects.create(
        user=user, namespace=graph.namespace, role="operator"
    )
    NamespaceMembership.objects.create(
        user=user, namespace=Namespace.objects.create(name="beta"), role="operator"
    )
    client = APIClient()
    client.force_login(user)
    assert start(client, graph, "k").status_code == 200
    member.delete()
    client.force_login(django_user_model.objects.get(pk=user.pk))
    assert start(client, graph, "k").status_code == 403


def test_deleting_a_run_deletes_the_stored_answer(client, publish):
    graph = publish("a")
    run_id = start(client, graph, "k").json()["id"]
    delete.delete_runs([Run.objects.get(run_id=run_id).pk], SYSTEM, even_active=True)
    assert run_id not in IdempotencyKey.objects.get(key="k").answer
    assert start(client, graph, "k").status_code == 409
    assert not Run.objects.exists()


def test_json_with_a_wrong_content_type_can_be_repeated(client, publish):
    publish("a", name="g")
    for _ in range(2):
        answer = client.generic(
            "POST",
            "/v0/namespace/alpha/graph/g/trigger",
            "{}",
            content_type="multipart/form-data",
            headers={"Idempotency-Key": "k"},
        )
        assert answer.status_code == 200, answer.json()
    assert Run.objects.count() == 1
