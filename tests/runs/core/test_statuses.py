"""The statuses: their allowed moves, and their names in run documents and APIs."""

from pathlib import Path

import pytest

from runs.core import statuses
from runs.engine.start import start_run
from runs.models import Run, State


@pytest.mark.parametrize(
    "names",
    [
        statuses.RUN_RESULTS,
        statuses.DOCUMENT_RUN_STATUSES,
        statuses.V0_RUN_STATUSES,
        statuses.RUN_MOVES,
        statuses.RUN_ACTIONS,
    ],
)
def test_every_run_status_has_a_name_and_moves(names):
    assert set(names) == set(statuses.RUN_STATUSES)


@pytest.mark.parametrize("names", [statuses.DOCUMENT_NODE_STATUSES, statuses.STATE_MOVES])
def test_every_state_status_has_a_name_and_moves(names):
    assert set(names) == set(statuses.STATE_STATUSES)


def named(name, names):
    """The statuses that have this name."""
    return {status for status, given_name in names.items() if given_name == name}


def test_the_names_in_run_documents_and_apis():
    assert statuses.RUN_RESULTS["failed"] == "error"
    assert statuses.DOCUMENT_RUN_STATUSES["queued"] == "pending"
    assert named("FAILED", statuses.V0_RUN_STATUSES) == {"failed", "partial", "cancelled"}
    assert set(statuses.V0_RUN_STATUSES.values()) == {"PENDING", "SUCCESS", "FAILED"}
    assert named("completed", statuses.DOCUMENT_NODE_STATUSES) == {"SUCCESS", "PRUNED"}


def test_every_status_is_either_active_or_final():
    assert set(statuses.ACTIVE_RUNS) | set(statuses.ENDED_RUNS) == set(statuses.RUN_STATUSES)
    assert set(statuses.UNFINISHED) | set(statuses.FINAL_STATES) == set(statuses.STATE_STATUSES)
    assert not any(sources & set(statuses.ENDED_RUNS) for sources in statuses.RUN_MOVES.values())


def test_the_documentation_names_every_status_and_every_word():
    page = (Path(__file__).parents[3] / "docs" / "statuses.md").read_text()
    rows = [line.split("`")[1::2] for line in page.splitlines() if line.startswith("| `")]
    run_names = [
        [
            status,
            statuses.RUN_RESULTS[status],
            statuses.DOCUMENT_RUN_STATUSES[status],
            statuses.V0_RUN_STATUSES[status],
        ]
        for status in statuses.RUN_STATUSES
    ]
    state_names = [
        [status, statuses.DOCUMENT_NODE_STATUSES[status]] for status in statuses.STATE_STATUSES
    ]
    runs = [[status] for status in statuses.RUN_STATUSES]
    assert rows[: len(runs)] == runs
    assert rows[len(runs) : -len(state_names)] == run_names
    assert sorted(rows[-len(state_names) :]) == sorted(state_names)
    for word in statuses.RUN_WORDS:
        assert f"`{word}`" in page


def test_every_word_that_an_interface_shows_is_a_word_of_the_filters():
    shown = {
        *statuses.RUN_RESULTS.values(),
        *statuses.DOCUMENT_RUN_STATUSES.values(),
        *(word.lower() for word in statuses.V0_RUN_STATUSES.values()),
    }
    assert shown <= set(statuses.RUN_WORDS)
    for status, name in statuses.RUN_RESULTS.items():
        assert status in statuses.RUN_WORDS[name]


@pytest.mark.django_db
def test_illegal_moves_change_no_row(publish):
    run = start_run(publish("a"))
    assert Run.objects.filter(pk=run.pk).move("completed") == 0
    assert Run.objects.filter(pk=run.pk).move("running") == 1
    assert State.objects.filter(run=run).move("SUCCESS") == 0
    assert State.objects.get(run=run).status == "CREATED"


def test_a_name_in_a_document_is_read_and_written_alike():
    for name, status in statuses.RUN_STATUS_OF_DOCUMENT.items():
        assert statuses.DOCUMENT_RUN_STATUSES[status] == name
    for name, status in statuses.STATE_STATUS_OF_DOCUMENT.items():
        written = "completed" if name == "skipped" else name
        assert statuses.DOCUMENT_NODE_STATUSES[status] == written
    assert set(statuses.RUN_STATUS_OF_DOCUMENT) == set(statuses.DOCUMENT_RUN_STATUSES.values())
    assert set(statuses.DOCUMENT_NODE_STATUSES.values()) <= set(statuses.STATE_STATUS_OF_DOCUMENT)
