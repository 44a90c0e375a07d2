"""Secrets: encrypted with the first of several keys, rotated, masked wherever a node might leave them."""

import io

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from graphs.definition import errors
from graphs.models import Secret
from graphs.nodes.base import node, registry
from graphs.services import secrets
from runs.engine.start import start_run
from runs.models import LogLine
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


@pytest.fixture
def guarded(namespace):
    """A node of ours that reads a secret and lets it slip everywhere."""

    @node("test.guarded", secrets=["token"])
    def read(ctx, fail: bool = False):
        ctx.log(f"the token is {ctx.secrets['token']}")
        if fail:
            raise ValueError(f"refused: {ctx.secrets['token']}")
        return {"said": f"token={ctx.secrets['token']}", "length": len(ctx.secrets["token"])}

    registry.store()
    yield
    del registry["test.guarded"]


def test_a_node_of_ours_reads_its_secrets_and_they_are_masked(publish, drain, guarded):
    for fail in (False, True):
        graph = publish("a", kinds={"a": "test.guarded"}, inputs={"a": {"fail": fail}})
        secrets.replace(graph, {"token": "canary-4711"})
        run = start_run(graph)
        drain()
        state = run.states.get()
        assert (state.outputs or {}) == ({} if fail else {"said": "token=•••", "length": 11})
        assert (
            "canary"
            not in f"{state.error}{state.outputs}{list(LogLine.objects.values_list('message', flat=True))}"
        )
    assert state.error == "ValueError: refused: •••"
    secrets.replace(graph, {})
    run = start_run(graph)
    drain()
    assert run.states.get().error == "the graph has no secret token"


def test_rotation_writes_all_with_the_first_key(publish, settings):
    graph = publish("a")
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.SECRETS_KEYS = [old]
    for at in range(1000):
        Secret.objects.create(graph=graph, name=f"s{at}", token=secrets.encrypt(f"value {at}"))
    settings.SECRETS_KEYS = [new, old]
    out = io.StringIO()
    call_command("rotate_secrets", stdout=out)
    assert out.getvalue().startswith("1000 ")
    settings.SECRETS_KEYS = [new]
    version = graph.current_id
    assert secrets.reveal(version, ["s0", "s999"]) == {"s0": "value 0", "s999": "value 999"}
    settings.SECRETS_KEYS = [old]
    with pytest.raises(errors.Conflict, match="SECRETS_KEYS"):
        secrets.reveal(version, ["s0"])
    with pytest.raises(CommandError, match="SECRETS_KEYS"):
        call_command("rotate_secrets")


def test_an_unchanged_secret_keeps_its_row(publish):
    graph = publish("a")
    secrets.replace(graph, {"a": "1", "b": "2"})
    kept = Secret.objects.get(name="a").token
    secrets.replace(graph, {"a": "1", "c": "3"})
    assert dict(Secret.objects.values_list("name", "token"))["a"] == kept
    assert set(Secret.objects.values_list("name", flat=True)) == {"a", "c"}


def test_the_mask_leaves_short_values_and_reaches_everything():
    mask = secrets.Mask(["long-secret", "long-secret-2", "abc"])
    assert mask.text("long-secret-2 long-secret abc") == "••• ••• abc"  # short values are words
    assert mask.value({"long-secret": ["x long-secret", 1, None, {"y": "long-secret"}]}) == {
        "•••": ["x •••", 1, None, {"y": "•••"}]
    }


def test_publishing_does_not_ask_for_secrets_but_the_run_does(publish, drain, guarded):
    run = start_run(publish("a", kinds={"a": "test.guarded"}))
    drain()
    assert by_node(run) == {"a": ["ERRORED"]}
