"""The rules for a run's status and progress, and that no other code decides them."""

import ast
from pathlib import Path

import pytest

from graphs.definition import topology
from runs.core import statuses
from runs.engine import status_rules

RUNS = Path(__file__).parents[3] / "runs"


@pytest.mark.parametrize(
    ("succeeded", "failed", "stopped", "stop_at_failure", "status"),
    [
        (3, 0, False, False, "completed"),
        (0, 0, False, False, "completed"),
        (3, 0, True, False, "partial"),
        (3, 1, False, False, "partial"),
        (3, 1, False, True, "failed"),
        (3, 0, True, True, "partial"),
        (0, 1, False, False, "failed"),
        (0, 0, True, False, "failed"),
    ],
)
def test_the_final_status_depends_on_successes_failures_and_stops(
    succeeded, failed, stopped, stop_at_failure, status
):
    assert status_rules.final_status(succeeded, failed, stopped, stop_at_failure) == status


@pytest.mark.parametrize(
    ("paused", "waiting", "pending", "status"),
    [
        (False, 0, 2, "running"),
        (False, 1, 2, "running"),
        (False, 2, 2, "paused"),
        (True, 0, 2, "paused"),
    ],
)
def test_the_active_status_depends_on_pauses_and_open_questions(paused, waiting, pending, status):
    assert status_rules.active_status(paused, waiting, pending) == status


def test_a_program_that_reports_running_does_not_end_a_pause():
    assert status_rules.reported_status("running", paused=True) == "paused"
    assert status_rules.reported_status("running", paused=False) == "running"
    assert status_rules.reported_status("failed", paused=True) == "failed"


@pytest.mark.parametrize("status", statuses.RUN_STATUSES)
@pytest.mark.parametrize("reached", [0, 50, 100])
@pytest.mark.parametrize("percent", [0, 70, 100])
def test_progress_is_100_if_and_only_if_the_run_is_completed(status, reached, percent):
    progress = status_rules.progress(status, percent, reached)
    assert (progress == 100) == (status == "completed")
    assert progress >= min(reached, 99)


def test_nodes_that_a_condition_skipped_count_once_the_run_has_ended():
    shape = topology.build(["a", "b", "c", "d"], [("a", "b"), ("b", "c"), ("a", "d")], {})
    counts = {"a": [1, 1, 0], "b": [4, 1, 1]}
    assert status_rules.percent_of_nodes(shape, counts, ended=False) == 31
    assert status_rules.percent_of_nodes(shape, counts, ended=False, running=0.5) == 43
    # d was not chosen; c lies behind a failure.
    assert status_rules.percent_of_nodes(shape, counts, ended=True) == 56
    counts["b"] = [4, 4, 0]
    assert status_rules.percent_of_nodes(shape, counts, ended=True) == 100


def written_progress():
    """Yield (file, expression) for each place in runs/ that sets the progress of a run."""
    for path in sorted(RUNS.rglob("*.py")):
        if "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Attribute) and target.attr == "progress":
                        yield path, ast.unparse(node.value)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".update"):
                for keyword in node.keywords:
                    if keyword.arg == "progress":
                        yield path, ast.unparse(keyword.value)


def test_all_code_that_sets_the_progress_calls_the_rule():
    writers = list(written_progress())
    without_the_rule = [
        (path.name, value)
        for path, value in writers
        if not value.startswith("status_rules.progress(")
    ]
    assert without_the_rule == []
    assert {path.name for path, _ in writers} == {
        "annotate.py",
        "counters.py",
        "import_exosphere.py",
        "status.py",
        "rows.py",
    }


def test_only_the_rule_chooses_between_final_statuses():
    """An expression that chooses between partial and failed belongs in `final_status`."""
    choosers = set()
    for path in RUNS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.IfExp):
                names = ast.unparse(node)
                if "PARTIAL" in names and "FAILED" in names:
                    choosers.add(path.name)
    assert choosers == set()
