"""Secrets: which workers may read them, when, and that they are masked everywhere else."""

import json

import pytest
from cryptography.fernet import Fernet
from django.db import connection

from graphs.auth import api_keys
from graphs.models import Graph, Secret
from graphs.services import secrets
from runs.models import State
from tests.support.v0_client import V0Client, node

pytestmark = pytest.mark.django_db


def test_a_worker_with_a_name_reads_the_secrets_of_its_states(api):
    api.register("Guarded", secrets=["token"])
    api.upsert("g", node("a", name="Guarded"), secrets={"token": "value-of-it"})
    api.trigger("g")
    [state] = api.post(
        "states/enqueue", {"nodes": ["Guarded"], "batch_size": 1, "worker": "process 1"}
    )[1]["states"]
    assert api.get(f"state/{state['state_id']}/secrets")[0] == 200
    another = V0Client(api_keys.create_key(["alpha"], "worker")[1])
    assert another.get(f"state/{state['state_id']}/secrets")[0] == 409


LEAKS = {
    "JSON": lambda value: json.dumps({"auth": value}),
    "repr": lambda value: f"refused {value!r}",
    "URL": lambda value: "https://example.org/?key=pa%22ss%0Aword-123",
}


@pytest.mark.parametrize("form", LEAKS)
def test_a_secret_is_masked_however_it_is_quoted(api, form):
    value = 'pa"ss\nword-123'
    api.register("Guarded", secrets=["token"])
    api.upsert(
        "g", node("a", name="Guarded"), secrets={"token": value}, retry_policy={"max_retries": 0}
    )
    api.trigger("g")
    [state] = api.claim("Guarded")
    assert api.post(f"state/{state['state_id']}/errored", {"error": LEAKS[form](value)})[0] == 200
    stored = State.objects.get().error
    assert "word-123" not in stored
    assert "•••" in stored


def test_a_secret_that_is_changed_while_a_worker_uses_it_is_masked_too(api):
    api.register("Guarded", secrets=["token"])
    api.upsert("g", node("a", name="Guarded"), secrets={"token": "first-value"})
    api.trigger("g")
    [state] = api.claim("Guarded")
    api.upsert("g", node("a", name="Guarded"), secrets={"token": "second-value"})
    api.executed(state, {"value": "first-value second-value"})
    assert State.objects.get().outputs == {"value": "••• •••"}


def test_masking_keeps_all_members_and_changes_only_whole_secrets(api):
    api.register("Guarded", secrets=["one", "two", "env"], outputs={"x": "string"})
    api.upsert(
        "g",
        node("a", name="Guarded"),
        secrets={"one": "long-key-one", "two": "long-key-two", "env": "prod"},
    )
    api.trigger("g")
    api.executed(api.claim("Guarded")[0], {"long-key-one": 1, "long-key-two": 2, "x": "products"})
    assert State.objects.get().outputs == {"•••": 1, "••••••": 2, "x": "products"}


def test_a_refused_template_does_not_show_its_secrets(api):
    status, answer = api.put("graph/g", {"secrets": {"token": "canary-4711", "bad": 7}})
    assert status == 422
    assert "canary" not in json.dumps(answer)
    assert "canary" not in json.dumps(api.put("graph/g/secrets/x", {"value": ["canary-4711"]})[1])


def test_an_unreadable_secret_blocks_only_the_states_that_use_it(api, conf):
    api.register("Guarded", secrets=["token"])
    api.upsert("g", node("a", name="Guarded"), secrets={"token": "value-of-it"})
    api.upsert("h", node("a"))
    for name in "gh":
        api.trigger(name)
    states = api.claim("Guarded", "Work")
    conf.SECRETS_KEYS = [Fernet.generate_key().decode()]
    reports = [
        {"state_id": state["state_id"], "attempt": 1, "outputs": [{"value": "1"}]}
        for state in states
    ]
    answers = api.post("states/report", {"reports": reports})[1]["reports"]
    codes = {
        state["node_name"]: answer["code"] for state, answer in zip(states, answers, strict=True)
    }
    assert codes == {"Guarded": 409, "Work": 200}
    api.upsert("g", node("a", name="Guarded"), secrets={"token": "value-of-it"})
    assert secrets.reveal(Graph.objects.get(name="g").current_id, ["token"]) == {
        "token": "value-of-it"
    }


def test_a_node_reads_the_secrets_that_it_declares_while_it_is_leased(api):
    api.register("Guarded", secrets=["token"])
    secret = {"token": "canary-4711", "other": "canary-4712"}
    api.upsert("g", node("a", name="Guarded"), secrets=secret)
    api.trigger("g")
    waiting = State.objects.get()
    assert api.get(f"state/{waiting.pk}/secrets")[0] == 409
    [state] = api.claim("Guarded")
    assert api.get(f"state/{state['state_id']}/secrets") == (
        200,
        {"secrets": {"token": "canary-4711"}},
    )
    assert api.last["Cache-Control"] == "no-store"
    second = V0Client(api_keys.create_key(["alpha"], "worker")[1])
    assert second.get(f"state/{state['state_id']}/secrets")[0] == 409
    api.executed(state, {"value": "leaked canary-4711"})
    assert api.get(f"state/{state['state_id']}/secrets")[0] == 409
    for path in (
        "graph/g",
        "graphs/",
        "states/",
        "/runs/" + state["run_id"],
        f"/runs/{state['run_id']}/states",
        "graph/g/versions/1",
    ):
        assert "canary" not in json.dumps(api.get(path)[1]), path
    stored = "".join(
        str(row)
        for table in connection.introspection.table_names()
        for row in connection.cursor().execute(f'SELECT * FROM "{table}"').fetchall()
    )
    assert "canary" not in stored
    assert api.get("graph/g")[1]["secrets"] == {"token": True, "other": True}


def test_empty_secrets_are_refused_and_missing_ones_listed(api):
    api.register("Guarded", secrets=["token"])
    api.upsert("g", node("a"), secrets={"token": ""}, status=422)
    graph = api.upsert("g", node("a", name="Guarded"))
    assert (graph["validation_status"], graph["validation_errors"]) == (
        "INVALID",
        ["a: Guarded asks for the secret 'token'; add it to the graph"],
    )
    assert api.put("graph/g/secrets/token", {"value": "v"}) == (200, {"secrets": {"token": True}})
    assert api.get("graph/g")[1]["validation_status"] == "VALID"
    assert api("delete", "graph/g/secrets/token") == (200, {"secrets": {}})
    assert api.post("graph/g/trigger", {})[0] == 400
    assert not Secret.objects.exists()
