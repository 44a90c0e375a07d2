"""A replica takes over, without the last commits of the primary or as a server that may be read.

Row ids are given again there. What a process remembers about the lost rows must not reach the new
ones, and everything goes on by itself.
"""

import pytest

from tests.chaos.figures import BACK_SECONDS, NOISE_SECONDS
from tests.chaos.site import site
from tests.support.clusters import until
from tests.support.definitions import definition

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.chaos,
    pytest.mark.only_on("postgresql"),
]
# Sequences are logged in steps of 32, so a replica skips as many ids.
RUNS = 60
TOLD = """
SELECT r.run_id, r.initial_data ->> 'value', g.name, s.identifier, s.outputs
FROM statemanager_runs_state s
JOIN statemanager_runs_run r ON r.id = s.run_id
JOIN statemanager_graphs_graph g ON g.id = r.graph_id
WHERE g.name <> 'g' AND s.status = 'SUCCESS'
"""
ENDED = """
SELECT r.id
FROM statemanager_runs_run r
JOIN statemanager_graphs_graph g ON g.id = r.graph_id
WHERE g.name = '{}' AND r.status = 'completed'
"""


@pytest.fixture
def replicated(tmp_path):
    """An installation with a streaming replica, which has the graph and no runs of it."""
    # The workers must outlive the primary, so their supervisors are patient.
    with site(tmp_path, {"PROBE_SECONDS": "20"}) as opened:
        replica = opened.server.standby()
        try:
            yield opened, replica
        finally:
            replica.close()


def publish(installation, name, first):
    nodes = (first, "last")
    inputs = {"value": "${{ run.inputs.value }}"}
    graph = definition(
        ">".join(nodes), kinds=dict.fromkeys(nodes, "test.who"), inputs=dict.fromkeys(nodes, inputs)
    )
    body = {"name": name, "namespace": "alpha", **graph}
    return installation.post("/graphs", body, f"graph {name}")["id"]


def start(installation, graph, name):
    for number in range(RUNS):
        body = {"run_id": f"{name}-{number}", "inputs": {"value": f"{name} {number}"}}
        installation.post(f"/graphs/{graph}/run", body, f"{name}-{number}")


def test_a_replica_that_lacks_the_last_commits_takes_over(replicated, record_property):
    """The new runs have the row ids of the lost ones, and nothing else of them."""
    opened, replica = replicated
    graphs = [publish(opened.installation, name, f"first_{name}") for name in ("lost", "new")]
    caught_up = opened.read("SELECT pg_current_wal_lsn()")[0][0]
    until(lambda: replica.has_replayed(caught_up), 20)
    replica.stop("fast")

    start(opened.installation, graphs[0], "lost")
    until(lambda: len(opened.read(ENDED.format("lost"))) == RUNS, 60)
    lost = {pk for (pk,) in opened.read(ENDED.format("lost"))}
    opened.server.stop("immediate")
    replica.promote(opened.server.port)

    start(opened.installation, graphs[1], "new")
    until(lambda: len(opened.read(ENDED.format("new"))) == RUNS, BACK_SECONDS + NOISE_SECONDS + 60)
    new = {pk for (pk,) in opened.read(ENDED.format("new"))}
    assert lost & new, "no id was given again: the test tests nothing"
    for run_id, value, graph, identifier, output in opened.read(TOLD):
        assert graph == "new"
        assert identifier in ("first_new", "last")
        assert output["run"] == run_id
        assert output["value"] == value
        assert run_id in output["key"]
    assert opened.read("SELECT count(*) FROM statemanager_runs_run") == [(RUNS,)]
    assert "all counters match their states" in opened.command("verify")
    assert all(part.poll() is None for part in opened.installation.parts.values())
    record_property("report", f"a replica took over: {len(lost & new)} ids were given again")
