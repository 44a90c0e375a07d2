"""The use of a graph's concurrency limit, over the API and on the metrics page."""

import pytest
from django.urls import reverse

from graphs.auth.callers import SYSTEM
from graphs.definition import redaction
from runs.engine import control, slots
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.engine.start_many import start_many
from runs.models import Run, RunSlot
from runs.queries import slots as queries
from tests.support.api_client import ApiClient
from tests.support.pages import text

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def graph(publish):
    return publish(
        "a", settings={"concurrency": {"limit": 2, "key": "inputs.who", "at_limit": "queue"}}
    )


def start(graph, *names):
    return [
        start_run(graph, RunOptions(run_id=f"{who}-{at}", inputs={"who": who}))
        for at, who in enumerate(names)
    ]


def test_the_api_says_who_is_active_and_how_many_wait(graph, make_key):
    runs = start(graph, "ada", "ada", "ada", "bob", "ada")
    api = ApiClient(make_key("read"))
    found = api("GET", f"/graphs/{graph.pk}/concurrency")[1]
    assert (found["limit"], found["key"], found["at_limit"]) == (2, "inputs.who", "queue")
    ada, bob = found["keys"]
    assert (ada["key"], ada["active"], ada["waiting"]) == ("ada", 2, 2)
    assert ada["active_runs"] == [{"id": run.pk, "run_id": run.run_id} for run in runs[:2]]
    assert ada["waiting_since"]
    assert (bob["key"], bob["active"], bob["waiting"], bob["waiting_since"]) == ("bob", 1, 0, None)
    assert found["more"] is False


def test_a_graph_without_a_limit_says_so(publish, make_key):
    api = ApiClient(make_key("read"))
    found = api("GET", f"/graphs/{publish('a').pk}/concurrency")[1]
    assert found == {"limit": None, "key": "", "at_limit": "", "keys": [], "more": False}


def test_keys_are_hidden_from_those_who_may_not_see_payloads(graph):
    start(graph, "ada")
    assert queries.of_graph(graph, payloads=False)["keys"][0]["key"] == redaction.DOTS


def test_only_the_keys_with_most_runs_that_wait_are_shown(graph, monkeypatch):
    monkeypatch.setattr(queries, "MAX_KEYS", 2)
    start(graph, "a", "b", "c", "c", "c")
    use = queries.of_graph(graph, payloads=True)
    assert [each["key"] for each in use["keys"]] == ["c", "a"]
    assert use["more"]


def test_the_metrics_page_shows_the_limit_and_its_use(graph, admin_client):
    url = reverse("graph_metrics", args=[graph.pk])
    assert "No run is active." in text(admin_client.get(url))
    runs = start(graph, "ada", "ada", "ada")
    page = text(admin_client.get(url))
    assert "At most 2 runs" in page
    assert "with the same <code>inputs.who</code>" in page
    assert page.count(f"{runs[0].run_id}</bdi></a>") == 1
    assert runs[2].run_id not in page, "it waits"


def test_a_skipped_run_is_answered_as_cancelled(publish, make_key):
    graph = publish("a", settings={"concurrency": {"limit": 1, "at_limit": "skip"}})
    api = ApiClient(make_key("run"))
    answers = [api("POST", f"/graphs/{graph.pk}/run", {})[1] for _ in range(2)]
    assert [answer["status"] for answer in answers] == ["queued", "cancelled"]
    assert answers[1]["message"].startswith("Skipped: a run of this graph")
    assert Run.objects.get(run_id=answers[1]["id"]).error_message == answers[1]["message"]


def test_a_key_without_a_value_is_refused_with_a_sentence(graph, make_key):
    api = ApiClient(make_key("run"))
    status, answer = api("POST", f"/graphs/{graph.pk}/run", {"inputs": {"who": None}})
    assert status == 422
    assert "must be a text, a number, true or false" in answer["detail"]


def test_many_keys_are_swept_in_parts(graph, monkeypatch):
    """As many queues in one round as QUEUES says, whatever the number of keys."""
    monkeypatch.setattr(slots, "QUEUES", 10)
    slots._queues_statement.cache_clear()
    try:
        start_many(graph, [RunOptions(inputs={"who": f"w{n}"}, delay=60) for n in range(35)])
        sweeper = slots.Sweeper()
        places = []
        for _ in range(4):
            sweeper.sweep()
            places.append(sweeper._after)
        assert places[:3] == sorted(set(places[:3]))
        assert places[3] == ""
    finally:
        slots._queues_statement.cache_clear()
    assert RunSlot.objects.filter(taken_at=None).count() == 35


def test_a_graph_whose_runs_had_slots_can_be_deleted(graph, make_key):
    for run in start(graph, "ada", "ada", "ada"):
        control.cancel_run(run, SYSTEM)
    api = ApiClient(make_key("admin"))
    assert api("DELETE", f"/graphs/{graph.pk}")[0] == 204
    assert not RunSlot.objects.exists()
