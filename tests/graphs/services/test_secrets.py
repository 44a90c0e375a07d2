"""Secrets: encryption, rotation of the keys, and masking in everything that a node leaves."""

import io

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from graphs.definition import errors
from graphs.models import Secret
from graphs.nodes.base import WaitForAnswer, node, registry
from graphs.services import secrets
from runs.engine.start import start_run
from runs.models import LogLine, ToolResult
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


@pytest.fixture
def leaking_node(namespace):
    """A built-in node that reads a secret and leaks it into its log, its outputs and its error."""

    @node("test.leak", secrets=["token"])
    def leak(ctx, fail: bool = False):
        token = ctx.secrets["token"]
        ctx.log(f"the token is {token}")
        if fail:
            raise ValueError(f"refused: {token}")
        return {"text": f"token={token}", "length": len(token)}

    @node("test.leak_more", secrets=["token"])
    def leak_more(ctx):
        token = ctx.secrets["token"]
        with ctx.artifact(f"{token}.txt") as file:
            file.write(b"x")
        ctx.once("tool", {}, lambda: {"answer": f"for {token}"})
        raise WaitForAnswer(f"Is {token} right?", {"title": token, "type": "object"})

    registry.store()
    yield
    del registry["test.leak"]
    del registry["test.leak_more"]


@pytest.fixture
def leak(publish, drain, leaking_node):
    """leak({"token": …}, fail=True): the state of the leaking node with these secrets."""

    def run(values, fail=False):
        graph = publish("a", kinds={"a": "test.leak"}, inputs={"a": {"fail": fail}})
        secrets.replace(graph, values)
        run = start_run(graph)
        drain()
        return run.states.get()

    return run


def log_text():
    return " ".join(LogLine.objects.values_list("message", flat=True))


def test_a_secret_is_read_by_its_node_and_masked_in_outputs_and_logs(leak):
    state = leak({"token": "canary-4711"})
    assert state.outputs == {"text": "token=•••", "length": 11}
    assert "canary" not in f"{state.error}{log_text()}"


def test_a_secret_is_masked_in_questions_tool_results_and_file_names(publish, drain, leaking_node):
    graph = publish("a", kinds={"a": "test.leak_more"})
    secrets.replace(graph, {"token": "canary-4711"})
    run = start_run(graph)
    drain()
    state = run.states.get()
    assert state.waiting_for["question"] == "Is ••• right?"
    assert ToolResult.objects.get().result == {"answer": "for •••"}
    stored = [state.waiting_for, *ToolResult.objects.values(), *run.artifacts.values()]
    assert "canary" not in str(stored)


def test_a_secret_is_masked_in_the_error_of_its_node(leak):
    state = leak({"token": "canary-4711"}, fail=True)
    assert not state.outputs
    assert state.error == "ValueError: refused: •••"
    assert "canary" not in log_text()


def test_a_node_fails_if_its_graph_has_not_the_secret_that_it_needs(leak):
    assert leak({}).error == "the graph has no secret token"


def test_rotation_encrypts_every_secret_with_the_first_key(publish, conf):
    graph = publish("a")
    old = Fernet.generate_key().decode()
    new = Fernet.generate_key().decode()
    conf.SECRETS_KEYS = [old]
    for at in range(1000):
        Secret.objects.create(graph=graph, name=f"s{at}", token=secrets.encrypt(f"value {at}"))
    conf.SECRETS_KEYS = [new, old]
    out = io.StringIO()
    call_command("rotate_secrets", stdout=out)
    assert out.getvalue().startswith("1000 ")
    conf.SECRETS_KEYS = [new]
    version = graph.current_id
    assert secrets.reveal(version, ["s0", "s999"]) == {"s0": "value 0", "s999": "value 999"}
    conf.SECRETS_KEYS = [old]
    with pytest.raises(errors.Conflict, match="SECRETS_KEYS"):
        secrets.reveal(version, ["s0"])
    with pytest.raises(CommandError, match="SECRETS_KEYS"):
        call_command("rotate_secrets")


def test_an_unchanged_secret_keeps_its_row(publish):
    graph = publish("a")
    secrets.replace(graph, {"a": "1", "b": "2"})
    token = Secret.objects.get(name="a").token
    secrets.replace(graph, {"a": "1", "c": "3"})
    assert Secret.objects.get(name="a").token == token
    assert set(Secret.objects.values_list("name", flat=True)) == {"a", "c"}


def test_the_mask_reaches_nested_values_and_keys_and_leaves_short_values():
    """A short secret might be an ordinary word, and masking it would spoil every text."""
    mask = secrets.Mask(["long-secret", "long-secret-2", "abc"])
    assert mask.text("long-secret-2 long-secret abc") == "••• ••• abc"
    assert mask.value({"long-secret": ["x long-secret", 1, None, {"y": "long-secret"}]}) == {
        "•••": ["x •••", 1, None, {"y": "•••"}]
    }


def test_a_graph_without_its_secrets_can_be_published_but_its_node_fails(
    publish, drain, leaking_node
):
    run = start_run(publish("a", kinds={"a": "test.leak"}))
    drain()
    assert by_node(run) == {"a": ["ERRORED"]}
