"""`verify` finds wrong counters, statuses and rows, and `--fix` corrects them."""

import io
import os
import uuid
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from graphs.models import Namespace
from graphs.services import datasets
from runs.actions.rerun import RerunOptions, rerun
from runs.engine import claim, control
from runs.engine.new_run import RunOptions
from runs.engine.node_context import run_folder
from runs.engine.start import start_outside, start_run
from runs.external import updates
from runs.health import recount, stored_files, verify
from runs.models import Artifact, LogLine, Run, State
from tests.support.invariants import assert_counters_agree

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_storage")]


def wrong_counters():
    """The problems of `verify` that are about counters."""
    return [problem for problem in verify.verify() if "counters" in problem.label]


@pytest.fixture
def runs(publish, drain, run_graph):
    """Runs of every kind, and an external run beside them.

    0: completed, with a fan-out and a join; 1: failed; 2: waiting for an answer; 3: running;
    4: a partial rerun.
    """
    graph = publish(
        "start>out>work>all",
        kinds={"out": "test.each", "work": "test.count"},
        inputs={"out": {"items": [1, 2]}, "work": {"path": "/dev/null"}},
        data={"all": {"unites": {"identifier": "start"}}},
    )
    runs = [
        start_run(graph),
        start_run(publish("a>b", name="bad", kinds={"a": "test.fail"})),
        start_run(publish("q", name="asks", kinds={"q": "test.ask"})),
    ]
    drain()
    runs.append(start_run(graph))
    claim.claim("w", [claim.Group(["noop"], 1)], 30, claim.FactsCache())
    runs.append(rerun(runs[0], options=RerunOptions(node="all")))
    outside = start_outside(Namespace.objects.get(name="alpha"), RunOptions())
    updates.mark(outside, "n", "started", SYSTEM)
    return runs


def test_the_counters_that_the_engine_wrote_are_right(runs):
    assert not wrong_counters()


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
def test_each_counter_is_checked_and_fixed(runs, change):
    run = runs[0]
    Run.objects.filter(pk=run.pk).update(**change)
    [problem] = wrong_counters()
    assert (problem.count, problem.examples) == (1, [run.run_id])
    with pytest.raises(CommandError, match="--fix"):
        call_command("verify", stdout=StringIO())
    output = StringIO()
    call_command("verify", "--fix", stdout=output)
    assert "fixed" in output.getvalue()
    assert not wrong_counters()
    assert_counters_agree(run)


def test_a_running_run_without_unfinished_states_ends(runs):
    run = runs[0]
    Run.objects.filter(pk=run.pk).update(status="running", finished_at=None, progress=10)
    recount.recount(run.pk)
    run.refresh_from_db()
    assert (run.status, run.progress, run.finished_at is not None) == ("completed", 100, True)
    assert_counters_agree(run)


def test_a_run_that_ended_too_early_continues(runs, drain):
    run = runs[3]
    Run.objects.filter(pk=run.pk).update(status="completed", finished_at=F("created_at"))
    assert [problem.examples for problem in wrong_counters()] == [[run.run_id]]
    recount.recount(run.pk)
    State.objects.filter(run=run, status="QUEUED").update(status="CREATED", lost_leases=0)
    drain()
    run.refresh_from_db()
    assert run.status == "completed"
    assert run.node_counts["all"] == [1, 1, 0]
    assert_counters_agree(run)


def test_rows_without_a_run_are_found_and_deleted(runs):
    if connection.vendor != "sqlite":
        return  # PostgreSQL refuses these rows.
    connection.disable_constraint_checking()
    try:
        LogLine.objects.create(run_id=10**9, message="without a run")
        State.objects.create(id=uuid.uuid4(), run_id=10**9, identifier="x", node="noop")
        problems = [
            problem for problem in verify.verify(fix=True) if "without a run" in problem.label
        ]
        counts = {problem.label: problem.count for problem in problems}
        assert (counts["log lines without a run"], counts["states without a run"]) == (1, 1)

        # Tests whose database was flushed leave folders behind.
        fixed = {label for label in counts if "folders" not in label}
        assert not [problem for problem in verify.verify() if problem.label in fixed]
    finally:
        connection.enable_constraint_checking()


def test_a_paused_run_that_is_fixed_is_not_paused_any_more(runs, drain):
    run = runs[3]
    control.pause_run(run, SYSTEM)
    Run.objects.filter(pk=run.pk).update(status="cancelled", finished_at=F("created_at"))
    recount.recount(run.pk)
    assert not State.objects.filter(run=run, paused=True).exists()


def test_new_folders_are_left_because_their_run_may_not_be_committed_yet(runs):
    folder = run_folder(10**6)
    name = default_storage.save(f"{folder}/x/file.txt", ContentFile(b"x"))
    assert not [problem for problem in verify.verify(fix=True) if folder in problem.examples]
    assert default_storage.exists(name)
    old = (timezone.now() - stored_files.MIN_AGE - timedelta(minutes=1)).timestamp()
    os.utime(default_storage.path(folder), (old, old))
    assert [problem for problem in verify.verify(fix=True) if folder in problem.examples]
    assert not default_storage.exists(name)


@pytest.fixture
def stored(run_graph):
    """A run with a file, and the row of that file."""
    run_graph("a", kinds={"a": "test.emit"})
    return Artifact.objects.first()


def problems_of_files(**options):
    """{kind: examples} of the problems that are about single files."""
    problems = verify.verify(**options)
    return {each.label: each.examples for each in problems if each.label.startswith("files ")}


def test_files_that_are_missing_or_differ_from_their_row_are_found(stored):
    assert problems_of_files(checksums=True) == {}
    path = Path(default_storage.path(stored.file))
    content = path.read_bytes()

    path.write_bytes(content[:-1] + b"?")
    assert problems_of_files() == {}, "the contents are read only on demand"
    changed = "files whose content is not that of their row"
    assert problems_of_files(checksums=True) == {changed: [stored.file]}
    with pytest.raises(CommandError):
        call_command("verify", "--checksums", stdout=StringIO())

    path.write_bytes(content + b"more")
    assert problems_of_files() == {"files whose size is not that of their row": [stored.file]}

    path.unlink()
    assert problems_of_files() == {"files that are not in the storage": [stored.file]}
    with pytest.raises(CommandError, match="Restore them from a backup"):
        call_command("verify", "--fix", stdout=StringIO())


def test_files_of_datasets_are_compared_too(namespace):
    source = datasets.Source("t.csv", io.BytesIO(b"a,b\n1,2\n"))
    dataset = datasets.load(namespace, "d", [source])
    table = dataset.tables.get()
    assert problems_of_files(checksums=True) == {}
    Path(default_storage.path(table.file)).unlink()
    assert problems_of_files() == {"files that are not in the storage": [table.file]}


def test_files_without_a_row_are_found_and_removed(stored):
    folder = stored.file.rpartition("/")[0]
    left_over = default_storage.save(f"{folder}/left-over.txt", ContentFile(b"x"))
    assert problems_of_files() == {}, "its row may not be committed yet"
    old = (timezone.now() - stored_files.MIN_AGE - timedelta(minutes=1)).timestamp()
    for name in (left_over, stored.file):
        os.utime(default_storage.path(name), (old, old))
    assert problems_of_files(fix=True) == {"files without a row": [left_over]}
    assert not default_storage.exists(left_over)
    assert default_storage.exists(stored.file)
    assert problems_of_files() == {}


def test_rows_are_read_in_pages(stored, monkeypatch):
    monkeypatch.setattr(stored_files, "PAGE", 2)
    monkeypatch.setattr(stored_files, "MAX_EXAMPLES", 3)
    Artifact.objects.bulk_create(
        Artifact(run=stored.run, state=stored.state, name="x", file=f"gone/{n}", size=1)
        for n in range(7)
    )
    [problem] = [each for each in verify.verify() if each.label.startswith("files ")]
    assert (problem.count, problem.examples) == (7, ["gone/0", "gone/1", "gone/2"])
