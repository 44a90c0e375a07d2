"""`Idempotency-Key`: a repeat gets the first answer and does nothing again, whatever happened in between."""

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
from runs.models import Run, RunTemplate
from tests.support.definitions import definition

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(make_key):
    return APIClient(headers={"X-API-Key": make_key("run")})


def start(client, graph, key, body=None, **headers):
    return client.post(
        f"/graphs/{graph.pk}/run",
        body or {},
        format="json",
        headers={"Idempotency-Key": key, **headers},
    )


def test_a_repeat_gets_the_first_answer(client, publish):
    graph = publish("a")
    first, second = start(client, graph, "k"), start(client, graph, "k")
    assert (first.status_code, second.status_code) == (200, 200)
    assert (first.json(), "Idempotency-Replayed" in first, second["Idempotency-Replayed"]) == (
        second.json(),
        False,
        "true",
    )
    assert Run.objects.count() == 1
    assert start(client, graph, "another").json() != first.json()
    assert start(client, graph, "k", {"labels": {"a": "b"}}).status_code == 422, (
        "the key was another request's"
    )
    assert (
        client.post(
            f"/graphs/{graph.pk}/run?dataset_id=1",
            {},
            format="json",
            headers={"Idempotency-Key": "k"},
        ).status_code
        == 422
    )
    assert Run.objects.count() == 2


def test_keys_belong_to_their_callers(client, publish, make_key):
    graph = publish("a")
    other = APIClient(headers={"X-API-Key": make_key("run")})
    assert start(client, graph, "k").json() != start(other, graph, "k").json()
    assert start(APIClient(), graph, "k").status_code == 401, (
        "an answer is nobody's who may not ask"
    )


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\tb"])
def test_impossible_keys_are_refused(client, publish, key):
    assert start(client, publish("a"), key).status_code == 422
    assert not Run.objects.exists()


def test_refusals_are_not_kept(client, publish):
    graph = publish("a")
    assert start(client, graph, "k", {"run_id": "a/b"}).status_code == 422
    assert start(client, graph, "k", {"run_id": "good"}).status_code == 200, (
        "nothing was done under this key yet"
    )
    assert start(client, graph, "k", {"run_id": "good"})["Idempotency-Replayed"] == "true"


def test_every_post_that_creates(client, make_key, publish, django_user_model):
    graph = publish("a")
    admin = APIClient(headers={"X-API-Key": make_key("admin", ())})
    csv = SimpleUploadedFile("rows.csv", b"a,b\n1,2\n")
    calls = [
        lambda: client.post(
            "/graphs",
            {"name": "new", "namespace": "alpha", **definition("a")},
            format="json",
            headers={"Idempotency-Key": "1"},
        ),
        lambda: client.post(
            "/start",
            {"sop": "s", "initial_data": {}, "namespace": "alpha"},
            format="json",
            headers={"Idempotency-Key": "2"},
        ),
        lambda: client.post(
            "/templates",
            {"name": "t", "graph_id": graph.pk},
            format="json",
            headers={"Idempotency-Key": "3"},
        ),
        lambda: client.post(
            "/v0/namespace/alpha/graph/new/trigger",
            {},
            format="json",
            headers={"Idempotency-Key": "4"},
        ),
        lambda: admin.post(
            "/admin/run-manager/bulk-operations",
            {"action": "archive", "filter": {}},
            format="json",
            headers={"Idempotency-Key": "5"},
        ),
    ]
    for call in calls:
        first, second = call(), call()
        assert first.status_code < 300, first.json()
        assert (second.status_code, second.json(), second.headers.get("Idempotency-Replayed")) == (
            first.status_code,
            first.json(),
            "true",
        )
    assert (
        Graph.objects.filter(name="new").count(),
        RunTemplate.objects.count(),
        Run.objects.count(),
    ) == (1, 1, 2)
    for attempt in range(2):
        csv.seek(0)
        body = {"name": "data", "namespace": "alpha", "files": csv}
        answer = client.post(
            "/datasets", body, format="multipart", headers={"Idempotency-Key": "6"}
        )
        assert (answer.status_code < 300, "Idempotency-Replayed" in answer) == (
            True,
            bool(attempt),
        ), answer.json()
    assert Dataset.objects.count() == 1


def test_old_answers_are_forgotten(client, publish):
    graph = publish("a")
    first = start(client, graph, "k").json()
    forget_old()
    assert start(client, graph, "k").json() == first
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    forget_old()
    assert start(client, graph, "k").json() != first


@pytest.mark.django_db(transaction=True)
def test_a_process_that_dies_leaves_both_or_neither(client, publish, monkeypatch):
    """Killed when the run was made and before the answer was sent."""
    graph = publish("a")
    to_representation = StartedSerializer.to_representation

    class Killed(BaseException):
        pass

    def die(serializer, run):
        raise Killed

    monkeypatch.setattr(StartedSerializer, "to_representation", die)
    with pytest.raises(Killed):
        start(client, graph, "k")
    assert not Run.objects.exists(), "the run went with the answer"
    monkeypatch.setattr(StartedSerializer, "to_representation", to_representation)
    first = start(client, graph, "k")
    assert first.status_code == 200
    assert start(client, graph, "k").json() == first.json()
    assert Run.objects.count() == 1


@pytest.mark.races
@pytest.mark.django_db(transaction=True)
def test_a_repeat_while_the_first_is_at_work(client, publish, monkeypatch):
    """On PostgreSQL it is told to come again; on SQLite, which has one writer, it waits and then gets the answer."""
    graph = publish("a")
    to_representation = StartedSerializer.to_representation
    at_work, go_on = threading.Event(), threading.Event()

    def slow(serializer, run):
        at_work.set()
        assert go_on.wait(20)
        return to_representation(serializer, run)

    def post():
        try:
            return start(client, graph, "k")
        finally:
            connections.close_all()

    monkeypatch.setattr(StartedSerializer, "to_representation", slow)
    with ThreadPoolExecutor(2) as threads:
        try:
            first = threads.submit(post)
            assert at_work.wait(20)
            second = threads.submit(post)
            if connection.vendor == "postgresql":
                refused = second.result(20)
                assert (refused.status_code, refused["Retry-After"], refused.json()["status"]) == (
                    409,
                    "1",
                    409,
                )
                assert "still being answered" in refused.json()["detail"]
                assert not Run.objects.exists(), "the first is not done"
                assert IdempotencyKey.objects.get().status is None
        finally:
            go_on.set()
    again = second.result() if connection.vendor == "sqlite" else start(client, graph, "k")
    assert (first.result().status_code, again.status_code, again["Idempotency-Replayed"]) == (
        200,
        200,
        "true",
    )
    assert again.json() == first.result().json()
    assert Run.objects.get().run_id == again.json()["id"]
    assert IdempotencyKey.objects.get().status == 200


@pytest.mark.races
@pytest.mark.django_db(transaction=True)
def test_parallel_repeats_make_one_run_each(client, publish, make_key, request):
    """1,000 keys with 20 repeats each in the long form (`--chaos-kills` above 100), 20 keys otherwise."""
    graph, key = publish("a"), make_key("run")
    keys = 1000 if request.config.getoption("--chaos-kills") > 100 else 20
    answers: dict[int, set[str]] = {number: set() for number in range(keys)}
    wrong = []

    def repeat(worker):
        mine = APIClient(headers={"X-API-Key": key})
        for number in range(keys):
            while (answer := start(mine, graph, f"key {number}")).status_code == 409:
                pass  # still being answered
            if answer.status_code != 200:
                wrong.append(answer.json())
            answers[number].add(answer.json().get("id", ""))
        connections.close_all()

    workers = [threading.Thread(target=repeat, args=(worker,)) for worker in range(20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong, wrong[:3]
    assert all(len(found) == 1 and found != {""} for found in answers.values())
    assert Run.objects.count() == keys


def test_an_answer_is_nobodys_whose_rights_have_changed(publish, django_user_model):
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


def test_an_answer_goes_with_its_run(client, publish):
    graph = publish("a")
    run_id = start(client, graph, "k").json()["id"]
    delete.delete_runs([Run.objects.get(run_id=run_id).pk], SYSTEM, even_active=True)
    assert run_id not in IdempotencyKey.objects.get(key="k").answer
    assert start(client, graph, "k").status_code == 409
    assert not Run.objects.exists()


def test_json_under_another_name(client, publish):
    publish("a", name="g")
    for _ in range(2):
        headers = {"Idempotency-Key": "k"}
        answer = client.generic(
            "POST",
            "/v0/namespace/alpha/graph/g/trigger",
            "{}",
            content_type="multipart/form-data",
            headers=headers,
        )
        assert answer.status_code == 200, answer.json()
    assert Run.objects.count() == 1
