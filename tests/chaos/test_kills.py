"""Random SIGKILLs of any process of an installation while work goes on: nothing is lost, nothing recorded twice.

`pytest tests/chaos/test_kills.py --chaos-kills 1000` is the long form.
"""

import os
import random
import signal
import statistics
from collections import Counter
from time import monotonic, sleep

import pytest
from django.utils import timezone

from graphs.models import RegisteredNode
from runs.engine.start import start_run
from runs.models import Run, State
from tests.chaos.executions import little_in_vain
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
FAST_NODES = {
    "start": 0.001,
    "right": 0.001,
    "both": 0.001,
    "all": 0.001,
}  # the seconds that each takes
STATES = {"start": 1, "out": 3, "work": 3, "left": 3, "right": 3, "ext": 3, "both": 3, "all": 1}


def choose(installation, chance, roles, busy_only):
    """Any process; but a busy worker, which is waited for, whenever they had less than half of the kills so far."""
    if busy_only or roles["busy worker"] * 2 <= sum(roles.values()):
        busy = until(
            lambda: [pid for pid, role in installation.victims().items() if role == "busy worker"],
            40,
        )
        return chance.choice(busy), "busy worker"
    return chance.choice(sorted(installation.victims().items()))


def published(publish, namespace, log):
    """A graph of fast, slow, waiting and external nodes, and of one with side effects; all but `out` and `ext` leave a line for each execution."""
    schema = {"type": "object", "properties": {"value": {}}}
    RegisteredNode.objects.create(
        namespace=namespace,
        name="ext.work",
        executor="worker",
        inputs_schema=schema,
        outputs_schema=schema,
    )
    kinds = {"out": "test.each", "work": "test.count", "left": "test.sleep", "ext": "ext.work"}
    return publish(
        "start>out>work>left>both>all work>right>both work>ext>both",
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
    )


def test_random_kills_lose_nothing_and_double_nothing(
    publish, namespace, make_key, request, database, record_property, tmp_path
):
    graph, key = published(publish, namespace, str(tmp_path / "executions")), make_key("admin")
    kills, chance, roles = request.config.getoption("--chaos-kills"), random.Random(20), Counter()
    held, asked, fewest = [], 0, 10**9
    installation = Installation(key)
    try:
        while sum(roles.values()) < kills:
            for _ in range(UNFINISHED - Run.objects.filter(pending_count__gt=0).count()):
                asked += 1
                installation.post(f"/graphs/{graph.pk}/run", {}, f"run {asked}")
            sleep(chance.uniform(0.3, 1.2))  # the moment of the kill is what is random
            unfinished = Run.objects.filter(pending_count__gt=0).count()
            if unfinished < 10:
                continue
            pid, role = choose(
                installation, chance, roles, request.config.getoption("--chaos-busy-only")
            )
            mine = list(
                State.objects.filter(status="QUEUED", worker__endswith=f":{pid}").values_list(
                    "pk", "attempt"
                )
            )
            if not installation.kill(pid):
                continue
            held += [
                (state, attempt, timezone.now()) for state, attempt in mine if role == "busy worker"
            ]
            roles[role] += 1
            fewest = min(fewest, unfinished)
            installation.revive()
        until(
            lambda: installation.revive() or not Run.objects.filter(pending_count__gt=0).exists(),
            180,
            0.2,
        )
    finally:
        installation.close()
    assert fewest >= 10
    assert roles["busy worker"] * 3 >= kills
    given_up = all_done_once(asked, kills)
    vain = little_in_vain(tmp_path / "executions", FAST_NODES, waiting=("left",), alone=("both",))
    waits = recoveries(held)
    assert waits[-1] <= LONGEST_RECOVERY_SECONDS + NOISE_SECONDS, waits
    assert len(waits) < 100 or p95(waits) <= RECOVERY_SECONDS + NOISE_SECONDS, (
        waits
    )  # of fewer, one unlucky would be the p95
    record_property(
        "report", f"chaos on {database}: {told(kills, roles, asked, given_up, waits, fewest, vain)}"
    )


def all_done_once(asked, kills):
    """All runs are complete, but for those of states that lost three workers, which are given up by rule; how many states that were."""
    runs = list(Run.objects.select_related("version"))
    assert len(runs) == asked, "an Idempotency-Key is one run, whoever was killed"
    given_up = State.objects.exclude(status="SUCCESS").exclude(status="RETRY_CREATED")
    assert all(state.status == "TIMEDOUT" and state.lost_leases == 3 for state in given_up), list(
        given_up.values("status", "lost_leases", "error")
    )
    unlucky = set(given_up.values_list("run_id", flat=True))
    assert len(unlucky) * 10 <= len(runs) + kills
    for run in runs:
        assert_counters_agree(run)
        assert (run.status == "completed") == (run.pk not in unlucky), (
            run.status,
            run.error_message,
        )
        if run.pk in unlucky:
            continue
        assert {node: counts[1] for node, counts in run.node_counts.items()} == STATES
        assert State.objects.get(run=run, identifier="all").outputs == {
            "value": [[1, 1], [2, 2], [3, 3]]
        }
    return len(given_up)


def recoveries(held):
    """The seconds from each kill to the next claim of what the worker held, in order."""
    states = State.objects.in_bulk([state for state, _, _ in held])
    waits = [
        (states[pk].started_at - at).total_seconds()
        for pk, attempt, at in held
        if pk in states and states[pk].attempt == attempt + 1
    ]
    assert waits, "no worker that was killed held anything"
    return sorted(max(0.0, wait) for wait in waits)


def p95(waits):
    return waits[int(len(waits) * 0.95)]


def told(kills, roles, runs, given_up, waits, fewest, vain):
    """What happened, in figures."""
    hit = ", ".join(f"{number} × {role}" for role, number in roles.most_common())
    more, nodes = [each.total() for each in vain.values()], sum(vain.values(), Counter())
    return (
        f"{kills} kills ({hit}); {runs} runs, {State.objects.count()} states, none lost or doubled; "
        f"{sum(more)} executions in vain by {len(more)} processes, at most {max(more, default=0)} by one ({dict(nodes)}), {given_up} given up; "
        f"recovery p50 {statistics.median(waits):.1f} s, p95 {p95(waits):.1f} s, most {waits[-1]:.1f} s (promised p95 {RECOVERY_SECONDS} s); "
        f"at least {fewest} runs unfinished at each kill"
    )


def test_idle_workers_killed(publish, request, database, record_property):
    """One killed idle worker may wedge a django-q2 cluster that looks alive; the probe (4 s here, as by default) finds out."""
    graph, chance, waits = publish("a>b"), random.Random(3), []
    with supervised(PROBE_SECONDS="4") as supervisor:
        for _ in range(max(2, request.config.getoption("--chaos-kills") // 50)):
            start_run(graph)
            until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 30)
            idle = [
                pid
                for parent in children(supervisor.pid)
                for sentinel in children(parent)
                for pid in children(sentinel)
            ]
            os.kill(chance.choice(idle), signal.SIGKILL)
            began, run = monotonic(), start_run(graph)
            until(lambda run=run: Run.objects.get(pk=run.pk).ended, 40)
            waits.append(monotonic() - began)
    assert all(run.status == "completed" for run in Run.objects.all())
    assert max(waits) <= BACK_SECONDS + NOISE_SECONDS, waits
    record_property(
        "report",
        f"{database}: {len(waits)} idle workers killed: the next run was over after {statistics.median(waits):.1f} s (p50), {max(waits):.1f} s at most",
    )
