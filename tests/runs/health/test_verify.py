"""`verify` finds counters, statuses and rows that are wrong, and `--fix` corrects them."""

import os
import uuid
from datetime import timedelta
from io import StringIO

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from graphs.models import Namespace
from runs.actions.rerun import RerunOptions, rerun
from runs.engine import claim, control
from runs.engine.node_context import run_folder
from runs.engine.start import RunOptions, start_outside, start_run
from runs.external import updates
from runs.health import recount, verify
from runs.models import LogLine, Run, State
from tests.support.invariants import assert_counters_agree

pytestmark = pytest.mark.django_db


def drift():
    return [found for found in verify.verify() if "counters" in found.label]


@pytest.fixture
def runs(publish, drain, run_graph):
    """One of each kind: completed, failed with retries, fanned out and united, waiting, at work, run again in part, driven from outside."""
    graph = publish("start>out>work>all", kinds={"out": "test.each", "work": "test.count"}, inputs={"out": {"items": [1, 2]}, "work": {"path": "/dev/null"}},
                    data={"all": {"unites": {"identifier": "start"}}})  # fmt: skip
    made = [
        start_run(graph),
        start_run(publish("a>b", name="bad", kinds={"a": "test.fail"})),
        start_run(publish("q", name="asks", kinds={"q": "test.ask"})),
    ]
    drain()
    made.append(start_run(graph))
    claim.claim("w", [(["noop"], 1)], 30, claim.FactsCache())
    made.append(rerun(made[0], options=RerunOptions(node="all")))
    outside = start_outside(Namespace.objects.get(name="alpha"), RunOptions())
    updates.mark(outside, "n", "started", SYSTEM)
    return made


def test_nothing_is_wrong_with_what_the_engine_wrote(runs):
    assert not drift()


@pytest.mark.parametrize(
    "change",
    [
        {"pending_count": F("pending_count") + 1},
        {"success_count": 7},
        {"errored_count": 3},
        {"retried_count": 1},
        {"cancelled_count": 2},
        {"log_count": 99},
        {"started_count": 99},
        {"node_counts": {}},
        {
            "node_counts": {
                "start": [1, 1, 0],
                "out": [2, 2, 0],
                "work": [2, 2, 0],
                "all": [1, 0, 0],
            }
        },
        {
            "node_counts": {
                "start": [1, 1, 0],
                "out": [2, 2, 0],
                "work": [2, 2, 0],
                "all": [1, 1, 0],
                "more": [1, 1, 0],
            }
        },
    ],
)
def test_each_count_is_looked_at_and_mended(runs, change):
    run = runs[0]
    Run.objects.filter(pk=run.pk).update(**change)
    [found] = drift()
    assert (found.count, found.examples) == (1, [run.run_id])
    with pytest.raises(CommandError, match="--fix"):
        call_command("verify", stdout=StringIO())
    call_command("verify", "--fix", stdout=(said := StringIO()))
    assert "fixed" in said.getvalue()
    assert not drift()
    assert_counters_agree(run)


def test_a_run_that_hangs_with_nothing_left_ends(runs):
    run = runs[0]
    Run.objects.filter(pk=run.pk).update(status="running", finished_at=None, progress=10)
    recount.recount(run.pk)
    run.refresh_from_db()
    assert (run.status, run.progress, run.finished_at is not None) == ("completed", 100, True)
    assert_counters_agree(run)


def test_a_run_that_ended_too_early_goes_on(runs, drain):
    run = runs[3]
    Run.objects.filter(pk=run.pk).update(status="completed", finished_at=F("created_at"))
    assert [found.examples for found in drift()] == [[run.run_id]]
    recount.recount(run.pk)
    State.objects.filter(run=run, status="QUEUED").update(status="CREATED", lost_leases=0)
    drain()
    run.refresh_from_db()
    assert run.status == "completed"
    assert run.node_counts["all"] == [1, 1, 0]
    assert_counters_agree(run)


def test_rows_of_no_run_are_found(runs):
    if connection.vendor == "sqlite":
        connection.disable_constraint_checking()
    else:
        return  # PostgreSQL lets nobody write such a row
    try:
        LogLine.objects.create(run_id=10**9, message="of nobody")
        State.objects.create(id=uuid.uuid4(), run_id=10**9, identifier="x", node="noop")
        found = {
            each.label: each.count
            for each in verify.verify(fix=True)
            if "without a run" in each.label
        }
        assert (found["log lines without a run"], found["states without a run"]) == (1, 1)
        assert not [
            each for each in verify.verify() if each.label in found and "folders" not in each.label
        ]
    finally:
        connection.enable_constraint_checking()


def test_a_paused_run_that_is_mended_is_not_held(runs, drain):
    run = runs[3]
    control.pause_run(run, SYSTEM)
    Run.objects.filter(pk=run.pk).update(status="cancelled", finished_at=F("created_at"))
    recount.recount(run.pk)
    assert not State.objects.filter(run=run, paused=True).exists()


def test_files_of_a_rerun_that_is_not_committed_are_spared(runs):
    folder = run_folder(10**6)
    name = default_storage.save(f"{folder}/x/file.txt", ContentFile(b"x"))
    assert not [found for found in verify.verify(fix=True) if folder in found.examples]
    assert default_storage.exists(name)
    old = (timezone.now() - verify.MIN_FOLDER_AGE - timedelta(minutes=1)).timestamp()
    os.utime(default_storage.path(folder), (old, old))
    assert [found for found in verify.verify(fix=True) if folder in found.examples]
    assert not default_storage.exists(name)
