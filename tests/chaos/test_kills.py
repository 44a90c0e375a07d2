"""Random processes of a working installation are killed with SIGKILL.

Nothing that was recorded is lost, and nothing is recorded twice. The long form is
`pytest tests/chaos/test_kills.py --chaos-kills 1000`.
"""

import os
import random
import signal
import statistics
from collections import Counter
from itertools import accumulate
from time import monotonic, sleep

import pytest
from django.utils import timezone

from graphs.models import RegisteredNode
from runs.engine.start import start_run
from runs.models import Run, RunSlot, State
from tests.chaos.executions import assert_few_unrecorded
from tests.chaos.figures import (
    BACK_SECONDS,
    LONGEST_RECOVERY_SECONDS,
    NOISE_SECONDS,
    RECOVERY_SECONDS,
)
from tests.chaos.installation import Installation, children
from tests.support.clusters import supervised, until
from tests.support.invariants import assert_counters_agree

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]
UNFINISHED = 15
LIMIT = 2  # of the runs of every third start that are active at once
# {fast node: the seconds that one execution takes}
FAST_NODES = {"start": 0.001, "right": 0.001, "both": 0.001, "all": 0.001}
STATES = {"start": 1, "out": 3, "work": 3, "left": 3, "right": 3, "ext": 3, "both": 3, "all": 1}


def choose_victim(installation, chance, roles, busy_only):
    """Choose a process to kill: (pid, role).

    Half of the kills are for busy workers: while these had fewer, wait for a worker to be busy.
    """
    if busy_only or roles["busy worker"] * 2 <= sum(roles.values()):
        busy = until(
            lambda: [pid for pid, role in installation.victims().items() if role == "busy worker"],
            40,
        )
        return chance.choice(busy), "busy worker"
    return chance.choice(sorted(installation.victims().items()))


def register_external_node(namespace):
    schema = {"type": "object", "properties": {"value": {}}}
    RegisteredNode.objects.create(
        namespace=namespace,
        name="ext.work",
        executor="worker",
        inputs_schema=schema,
        outputs_schema=schema,
    )


def publish_nodes_of_every_kind(publish, name, log, **options):
    """Publish a graph of fast, slow, waiting and external nodes, and of one with side effects.

    All but `out` and `ext` write a line for each execution.
    """
    kinds = {"out": "test.each", "work": "test.count", "left": "test.sleep", "ext": "ext.work"}
    return publish(
        "start>out>work>left>both>all work>right>both work>ext>both",
        name,
        kinds=dict.fromkeys(FAST_NODES, "test.tick") | kinds,
        inputs={
            "start": {"path": log},
            "out": {"items": [1, 2, 3]},
            "work": {"path": log, "seconds": 0.05, "value": "${{ out.outputs.value }}"},
            "left": {"path": log, "seconds": 0.2, "value": "${{ work.outputs.value }}"},
            "right": {"path": log, "value": "${{ work.outputs.value }}"},
            "ext": {"value": "${{ work.outputs.value }}"},
            "both": {
                "path": log,
                "value": ["${{ left.outputs.value }}", "${{ right.outputs.value }}"],
            },
            "all": {"path": log, "value": "${{ both.outputs.value }}"},
        },
        data={"all": {"unites": {"identifier": "start"}}, "both": {"side_effects": True}},
        namespaces={"ext": "alpha"},
        **options,
    )


def test_random_kills_lose_nothing_and_double_nothing(
    publish, namespace, make_key, request, database, record_property, tmp_path
):
    log = str(tmp_path / "executions")
    register_external_node(namespace)
    graph = publish_nodes_of_every_kind(publish, "graph", log)
    limited = publish_nodes_of_every_kind(
        publish, "limited", log, settings={"concurrency": {"limit": LIMIT}}
    )
    key = make_key("admin")
    kills = request.config.getoption("--chaos-kills")
    busy_only = request.config.getoption("--chaos-busy-only")
    chance = random.Random(20)
    roles = Counter()
    lost_states = []  # (state, attempt, time of the kill)
    started = 0
    fewest_unfinished = 10**9

    installation = Installation(key)
    try:
        while sum(roles.values()) < kills:
            for _ in range(UNFINISHED - Run.objects.filter(pending_count__gt=0).count()):
                started += 1
                started_graph = limited if started % 3 == 0 else graph
                installation.post(f"/graphs/{started_graph.pk}/run", {}, f"run {started}")
            sleep(chance.uniform(0.3, 1.2))  # the moment of the kill is what is random
            unfinished = Run.objects.filter(pending_count__gt=0).count()
            if unfinished < 10:
                continue
            pid, role = choose_victim(installation, chance, roles, busy_only)
            claimed = State.objects.filter(status="QUEUED", worker__endswith=f":{pid}")
            attempts = list(claimed.values_list("pk", "attempt"))
            if not installation.kill(pid):
                continue
            if role == "busy worker":
                lost_states += [(state, attempt, timezone.now()) for state, attempt in attempts]
            roles[role] += 1
            fewest_unfinished = min(fewest_unfinished, unfinished)
            installation.revive()
        until(
            lambda: installation.revive() or not Run.objects.filter(pending_count__gt=0).exists(),
            180,
            0.2,
        )
    finally:
        installation.close()

    assert fewest_unfinished >= 10
    assert roles["busy worker"] * 3 >= kills
    given_up = assert_all_completed_once(started, kills)
    assert_never_more_active(limited, LIMIT)
    unrecorded = assert_few_unrecorded(
        tmp_path / "executions", FAST_NODES, waiting=("left",), side_effects=("both",)
    )
    waits = recovery_times(lost_states)
    assert waits[-1] <= LONGEST_RECOVERY_SECONDS + NOISE_SECONDS, waits
    if len(waits) >= 100:  # of fewer, a single slow recovery would be the 95th percentile
        assert p95(waits) <= RECOVERY_SECONDS + NOISE_SECONDS, waits
    figures = describe(kills, roles, started, given_up, waits, fewest_unfinished, unrecorded)
    record_property("report", f"chaos on {database}: {figures}")


def assert_all_completed_once(started, kills):
    """Assert that all runs are complete; return how many states were given up.

    A state that lost three workers is given up, and its run ends without it. This is rare.
    """
    runs = list(Run.objects.select_related("version"))
    assert len(runs) == started, "each Idempotency-Key made one run, whatever was killed"
    given_up = State.objects.exclude(status="SUCCESS").exclude(status="RETRY_CREATED")
    assert all(state.status == "TIMEDOUT" and state.lost_leases == 3 for state in given_up), list(
        given_up.values("status", "lost_leases", "error")
    )
    incomplete = set(given_up.values_list("run_id", flat=True))
    assert len(incomplete) * 10 <= len(runs) + kills
    for run in runs:
        assert_counters_agree(run)
        assert (run.status == "completed") == (run.pk not in incomplete), (
            run.status,
            run.error_message,
        )
        if run.pk in incomplete:
            continue
        assert {node: counts[1] for node, counts in run.node_counts.items()} == STATES
        assert State.objects.get(run=run, identifier="all").outputs == {
            "value": [[1, 1], [2, 2], [3, 3]]
        }
    return len(given_up)


def assert_never_more_active(graph, limit):
    """From their first claims to their ends, no more runs were active at once."""
    changes = []
    for started_at, finished_at in Run.objects.filter(graph=graph).values_list(
        "started_at", "finished_at"
    ):
        changes += [(started_at, 1), (finished_at, -1)]  # ends come first
    changes.sort()
    active = list(accumulate(change for _, change in changes))
    assert max(active) <= limit
    assert max(active) == limit, "the limit was never reached"
    assert not RunSlot.objects.exists(), "a slot was lost"


def recovery_times(lost_states):
    """The seconds from each kill to the next claim of the worker's states, sorted."""
    states = State.objects.in_bulk([state for state, _, _ in lost_states])
    waits = [
        (states[pk].started_at - killed_at).total_seconds()
        for pk, attempt, killed_at in lost_states
        if pk in states and states[pk].attempt == attempt + 1
    ]
    assert waits, "no killed worker had a state"
    return sorted(max(0.0, wait) for wait in waits)


def p95(waits):
    return waits[int(len(waits) * 0.95)]


def describe(kills, roles, runs, given_up, waits, fewest_unfinished, unrecorded):
    """The figures of the test in one line."""
    kills_by_role = ", ".join(f"{number} × {role}" for role, number in roles.most_common())
    by_process = [nodes.total() for nodes in unrecorded.values()]
    by_node = sum(unrecorded.values(), Counter())
    return (
        f"{kills} kills ({kills_by_role}); "
        f"{runs} runs, {State.objects.count()} states, none lost or doubled; "
        f"{sum(by_process)} executions without a recorded result by {len(by_process)} processes, "
        f"at most {max(by_process, default=0)} by one ({dict(by_node)}), {given_up} given up; "
        f"recovery p50 {statistics.median(waits):.1f} s, p95 {p95(waits):.1f} s, "
        f"most {waits[-1]:.1f} s (promised p95 {RECOVERY_SECONDS} s); "
        f"at least {fewest_unfinished} runs unfinished at each kill"
    )


def test_idle_workers_killed(publish, request, database, record_property):
    """A django-q2 cluster whose idle worker was killed may be stuck and still look alive.

    The probe, every 4 s here as by default, notices it.
    """
    graph = publish("a>b")
    chance = random.Random(3)
    waits = []
    with supervised(PROBE_SECONDS="4") as supervisor:
        for _ in range(max(2, request.config.getoption("--chaos-kills") // 50)):
            start_run(graph)
            until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 30)
            os.kill(chance.choice(idle_processes(supervisor.pid)), signal.SIGKILL)
            killed_at = monotonic()
            run = start_run(graph)
            until(lambda run=run: Run.objects.get(pk=run.pk).ended, 40)
            waits.append(monotonic() - killed_at)
    assert all(run.status == "completed" for run in Run.objects.all())
    assert max(waits) <= BACK_SECONDS + NOISE_SECONDS, waits
    record_property(
        "report",
        f"{database}: {len(waits)} idle workers killed: the next run was over after "
        f"{statistics.median(waits):.1f} s (p50), {max(waits):.1f} s at most",
    )


def idle_processes(supervisor):
    """The process ids below the sentinels of a supervisor's cluster."""
    sentinels = [pid for parent in children(supervisor) for pid in children(parent)]
    return [pid for sentinel in sentinels for pid in children(sentinel)]
