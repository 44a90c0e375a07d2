"""Programs that register at the same moment, and triggers that fail while they are stored."""

from typing import Any

import pytest

from graphs.models import Graph, RegisteredNode
from runs.engine import wakeup
from runs.models import Run, State
from tests.support.concurrency import at_once
from tests.support.v0_client import V0Client, node

pytestmark = pytest.mark.django_db


@pytest.mark.django_db(transaction=True)
def test_programs_that_start_at_the_same_moment_register_once(api):
    key = api.key
    names = [f"N{at}" for at in range(20)]

    def start(at: int) -> int:
        program = V0Client(key)
        program.register(*(names if at % 2 else reversed(names)))
        return program.put(
            "graph/g", {"secrets": {"s": str(at % 2)}, "nodes": [node("a", name="N0")]}
        )[0]

    assert at_once(*(lambda at=at: start(at) for at in range(8))) == [201] * 8
    assert RegisteredNode.objects.filter(name__in=names).count() == 20
    assert Graph.objects.get().versions.count() == 1


def test_a_trigger_that_fails_stores_nothing(api, monkeypatch):
    api.upsert("g", node("a"))

    def crash(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wakeup, "hint_params", crash)
    with pytest.raises(KeyboardInterrupt):
        api.post("graph/g/trigger", {})
    assert (Run.objects.count(), State.objects.count()) == (0, 0)
