"""`doctor` says at once that a graph in use needs a node that nobody has."""

from datetime import timedelta

import pytest

from graphs.models import CronTrigger, RegisteredNode
from graphs.nodes.base import registry
from runs.core import sql
from runs.engine.start import start_run
from runs.health import used_nodes
from runs.models import Run

pytestmark = pytest.mark.django_db


def reported():
    return [finding.message for finding in used_nodes.findings()]


@pytest.fixture
def external(namespace, publish):
    """A graph with a node of an external worker, which was registered when it was published."""
    RegisteredNode.objects.create(namespace=namespace, name="Pay", executor="worker")
    return publish("p", kinds={"p": "Pay"}, namespaces={"p": "alpha"}, name="shop")


def test_a_node_that_no_worker_has_registered(external):
    start_run(external)
    assert reported() == []
    RegisteredNode.objects.filter(name="Pay").delete()
    assert reported() == [
        "The graph alpha/shop needs the node 'Pay' of 'alpha', but no worker has registered it."
    ]


def test_a_node_that_no_app_has(publish, monkeypatch):
    graph = publish("a", kinds={"a": "test.emit"})
    run = start_run(graph)
    assert reported() == []
    monkeypatch.delitem(registry, "test.emit")
    assert reported() == [
        "The graph alpha/graph needs the node 'test.emit', but no installed app has it."
    ]
    Run.objects.filter(pk=run.pk).update(
        status="completed",
        finished_at=sql.clock(),
        created_at=sql.clock() - timedelta(days=8),
    )
    assert reported() == [], "nothing uses the graph any more"
    CronTrigger.objects.create(graph=graph, expression="0 0 * * *")
    assert len(reported()) == 1, "a schedule will start it"
