"""The words for statuses: every one has its moves and its spelling in each document, and illegal moves change nothing."""

import pytest

from runs.core import statuses
from runs.engine.start import start_run
from runs.models import Run, State


@pytest.mark.parametrize(
    "words",
    [
        statuses.RUN_RESULTS,
        statuses.DOCUMENT_RUN_STATUSES,
        statuses.V0_RUN_STATUSES,
        statuses.RUN_MOVES,
        statuses.RUN_ACTIONS,
    ],
)
def test_every_run_status_is_spelled(words):
    assert set(words) == set(statuses.RUN_STATUSES)


@pytest.mark.parametrize("words", [statuses.DOCUMENT_NODE_STATUSES, statuses.STATE_MOVES])
def test_every_state_status_is_spelled(words):
    assert set(words) == set(statuses.STATE_STATUSES)


def test_what_other_documents_say():
    assert (statuses.RUN_RESULTS["failed"], statuses.DOCUMENT_RUN_STATUSES["queued"]) == (
        "error",
        "pending",
    )
    assert {word for word, wire in statuses.V0_RUN_STATUSES.items() if wire == "FAILED"} == {
        "failed",
        "partial",
        "cancelled",
    }
    assert set(statuses.V0_RUN_STATUSES.values()) == {"PENDING", "SUCCESS", "FAILED"}
    assert {
        word for word, wire in statuses.DOCUMENT_NODE_STATUSES.items() if wire == "completed"
    } == {
        "SUCCESS",
        "PRUNED",
    }


def test_ended_and_active_are_all_there_is():
    assert set(statuses.ACTIVE_RUNS) | set(statuses.ENDED_RUNS) == set(statuses.RUN_STATUSES)
    assert set(statuses.UNFINISHED) | set(statuses.FINAL_STATES) == set(statuses.STATE_STATUSES)
    assert not any(sources & set(statuses.ENDED_RUNS) for sources in statuses.RUN_MOVES.values())


@pytest.mark.django_db
def test_illegal_moves_change_no_row(publish):
    run = start_run(publish("a"))
    assert Run.objects.filter(pk=run.pk).move("completed") == 0
    assert Run.objects.filter(pk=run.pk).move("running") == 1
    assert State.objects.filter(run=run).move("SUCCESS") == 0
    assert State.objects.get(run=run).status == "CREATED"


def test_the_documents_words_lead_here_and_back():
    for word, ours in statuses.RUN_STATUS_OF_DOCUMENT.items():
        assert statuses.DOCUMENT_RUN_STATUSES[ours] == word
    for word, ours in statuses.STATE_STATUS_OF_DOCUMENT.items():
        assert statuses.DOCUMENT_NODE_STATUSES[ours] == {"skipped": "completed"}.get(word, word)
    assert set(statuses.RUN_STATUS_OF_DOCUMENT) == set(statuses.DOCUMENT_RUN_STATUSES.values())
    assert set(statuses.DOCUMENT_NODE_STATUSES.values()) <= set(statuses.STATE_STATUS_OF_DOCUMENT)
