"""Random SIGKILLs of any process of a supervised cluster while work goes on: nothing is lost, nothing recorded twice.

`pytest tests/chaos --chaos-kills 200` is the long form.
"""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import sleep

import pytest

from runs.models import Run, State
from runs.starting import start_run
from tests.clusters import ROOT, environment, until
from tests.invariants import assert_books_agree

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]
UNFINISHED = 15
STATES = {"start": 1, "out": 3, "work": 3, "left": 3, "right": 3, "both": 3, "all": 1}


def supervisor():
    return subprocess.Popen([sys.executable, "-m", "django", "supervise", "--workers", "2"], cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL)


def children(pid):
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def victims(process):
    """{pid: role} of everything that runs."""
    found = {process.pid: "supervisor"}
    busy = {int(worker.rpartition(":")[2]) for worker in State.objects.filter(status="QUEUED").values_list("worker", flat=True) if worker}
    for parent in children(process.pid):
        found[parent] = "cluster parent"
        for sentinel in children(parent):
            found[sentinel] = "sentinel"
            found |= {pid: "busy worker" if pid in busy else "idle worker, pusher or monitor" for pid in children(sentinel)}
    return found


def choose(process, chance, roles):
    """Any process; but a busy worker, which is waited for, whenever they had less than half of the kills so far."""
    if roles["busy worker"] * 2 <= sum(roles.values()):
        busy = until(lambda: [pid for pid, role in victims(process).items() if role == "busy worker"], 40)
        return chance.choice(busy), "busy worker"
    return chance.choice(sorted(victims(process).items()))


def test_random_kills_lose_nothing_and_double_nothing(publish, request, lane, record_property):
    graph = publish(
        "start>out>work>left>both>all work>right>both",
        kinds={"out": "test.each", "work": "test.work", "left": "test.sleep", "both": "test.work"},
        inputs={
            "out": {"items": [1, 2, 3]},
            "work": {"seconds": 0.05, "value": "${{ out.outputs.value }}"},
            "left": {"seconds": 0.2, "value": "${{ work.outputs.value }}"},
            "right": {"value": "${{ work.outputs.value }}"},
            "both": {"seconds": 0.02, "value": ["${{ left.outputs.value }}", "${{ right.outputs.value }}"]},
            "all": {"value": "${{ both.outputs.value }}"},
        },
        data={"all": {"unites": {"identifier": "start"}}},
    )
    kills, chance, roles = request.config.getoption("--chaos-kills"), random.Random(20), Counter()
    runs, process, fewest = [], supervisor(), 10**9
    try:
        while sum(roles.values()) < kills:
            unfinished = Run.objects.filter(pending_count__gt=0).count()
            runs += [start_run(graph) for _ in range(UNFINISHED - unfinished)]
            sleep(chance.uniform(0.1, 0.6))  # the moment of the kill is what is random
            unfinished = Run.objects.filter(pending_count__gt=0).count()
            if unfinished < 10:
                continue
            pid, role = choose(process, chance, roles)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            roles[role] += 1
            fewest = min(fewest, unfinished)
            if role == "supervisor":
                process.wait(10)
                process = supervisor()
        until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 180, 0.2)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    given_up = State.objects.exclude(status="SUCCESS").exclude(status="RETRY_CREATED")
    assert all(state.status == "TIMEDOUT" and state.lost == 3 for state in given_up), list(given_up.values("status", "lost", "error"))
    unlucky = set(given_up.values_list("run_id", flat=True))  # a state that was killed three times is given up, by rule
    assert len(unlucky) * 10 <= len(runs) + kills
    for run in runs:
        assert_books_agree(run)
        assert (run.status == "completed") == (run.pk not in unlucky), (run.status, run.error_message)
        if run.pk in unlucky:
            continue
        assert {node: counts[1] for node, counts in run.tally.items()} == STATES
        assert State.objects.get(run=run, identifier="all").outputs == {"value": [[1, 1], [2, 2], [3, 3]]}
    assert fewest >= 10
    assert roles["busy worker"] * 3 >= kills
    again = State.objects.filter(attempt__gt=1).count()
    hit = ", ".join(f"{number} × {role}" for role, number in roles.most_common())
    text = f"{kills} kills ({hit}); {len(runs)} runs, {State.objects.count()} states, none lost or doubled; {again} claimed again, {len(given_up)} given up"
    record_property("report", f"chaos on {lane}: {text}; at least {fewest} runs unfinished at each kill")
