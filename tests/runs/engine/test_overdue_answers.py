"""Questions that say by when they are to be answered, and what happens otherwise."""

from datetime import timedelta

import pytest

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.nodes.base import WaitForAnswer, node, registry
from runs.core import sql
from runs.engine import control, overdue_answers
from runs.engine.answer import answer_state
from runs.engine.start import start_run
from runs.models import AnswerDeadline, AuditEntry, State
from runs.queries import wait_reasons
from tests.support.api_client import ApiClient
from tests.support.invariants import assert_counters_agree
from tests.support.pages import page_of, text
from tests.support.runs import by_node, outputs

pytestmark = pytest.mark.django_db
APPROVAL = {"question": "Ship it?", "answer_by": 3600}


@pytest.fixture
def asking(publish, drain):
    """Start a graph whose node asks for an approval, and let it ask."""

    def ask(retry=None, **inputs):
        data = {"inputs": {**APPROVAL, **inputs}} | ({"retry": retry} if retry else {})
        run = start_run(publish("ask>after", kinds={"ask": "approval"}, data={"ask": data}))
        drain()
        run.refresh_from_db()
        assert run.status == "paused"
        return run

    return ask


def let_time_pass(drain):
    AnswerDeadline.objects.exclude(at=None).update(at=sql.clock() - timedelta(seconds=1))
    overdue_answers.sweep()
    drain()


def test_without_an_answer_the_state_fails(asking, drain):
    run = asking()
    [deadline] = AnswerDeadline.objects.all()
    assert abs(deadline.at - sql.clock() - timedelta(hours=1)) < timedelta(minutes=1)
    assert overdue_answers.sweep() == 0, "there is time left"
    let_time_pass(drain)
    run.refresh_from_db()
    assert (run.status, by_node(run)["ask"]) == ("failed", ["ERRORED"])
    assert run.states.get(identifier="ask").error == "nobody answered in time"
    assert run.logs.filter(message="ask was not answered: nobody answered within 3600 s").exists()
    assert AuditEntry.objects.filter(run=run.pk, action="overdue").count() == 1
    assert not AnswerDeadline.objects.exists()
    assert_counters_agree(run)


@pytest.mark.parametrize(("unanswered", "approved"), [("approve", True), ("refuse", False)])
def test_without_an_answer_the_default_is_taken(asking, drain, unanswered, approved):
    run = asking(unanswered=unanswered, fail_if_refused=False, data={"n": 1})
    let_time_pass(drain)
    run.refresh_from_db()
    assert run.status == "completed"
    [output] = outputs(run, "ask")
    expected = {"approved": approved, "by": "nobody", "comment": "nobody answered in time"}
    assert output == {**expected, "data": {"n": 1}}
    assert_counters_agree(run)


def test_an_overdue_answer_is_said_and_can_still_be_given(asking, drain, admin_client):
    run = asking(unanswered="escalate")
    assert "that is overdue." in wait_reasons.why_waiting(run)[0]
    let_time_pass(drain)
    assert overdue_answers.sweep() == 0, "it is said once"
    assert run.logs.filter(level="warning", message__contains="is overdue").count() == 1
    assert wait_reasons.why_waiting(run)[0].endswith("The answer is overdue.")
    assert "The answer is overdue." in text(admin_client.get(page_of(run)))
    answer_state(run, run.states.get(identifier="ask").pk, {"approved": True}, SYSTEM)
    drain()
    run.refresh_from_db()
    assert run.status == "completed"
    assert_counters_agree(run)


def test_an_answer_in_time_counts(asking, drain):
    run = asking()
    answer_state(run, run.states.get(identifier="ask").pk, {"approved": True}, SYSTEM)
    let_time_pass(drain)
    run.refresh_from_db()
    assert run.status == "completed"
    assert not AnswerDeadline.objects.exists(), "the sweep removes what nobody needs"


def test_an_answer_after_the_time_is_refused(asking, drain):
    run = asking()
    state = run.states.get(identifier="ask")
    let_time_pass(drain)
    with pytest.raises(errors.Conflict):
        answer_state(run, state.pk, {"approved": True}, SYSTEM)


def test_a_cancelled_run_is_left_alone(asking, drain):
    run = asking()
    control.cancel_run(run, SYSTEM)
    let_time_pass(drain)
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert not AnswerDeadline.objects.exists()


def test_a_retry_asks_again_with_a_time_of_its_own(asking, drain):
    run = asking(retry={"max_retries": 1, "backoff_factor": 0.001})
    let_time_pass(drain)
    State.objects.filter(run=run, status="CREATED", waiting_for=None).update(
        due_at=sql.clock(), claim_at=sql.clock()
    )
    drain()
    run.refresh_from_db()
    assert (run.status, by_node(run)["ask"]) == ("paused", ["RETRY_CREATED", "CREATED"])
    [deadline] = AnswerDeadline.objects.all()
    assert deadline.state == run.states.get(status="CREATED").pk
    assert deadline.at > sql.clock()


def test_the_time_is_shown_over_rest_and_on_the_page(asking, admin_client, make_key):
    run = asking()
    [state] = ApiClient(make_key("read"))("GET", f"/runs/{run.run_id}/states")[1]["states"]
    assert state["answer_by"].endswith("Z")
    assert (state["waiting_for"]["answer_by"], state["waiting_for"]["unanswered"]) == (3600, "fail")
    page = text(admin_client.get(page_of(run)))
    assert "If nobody answers by" in page


@pytest.fixture
def question():
    """A node that asks whatever its test wants to ask."""
    asked = {}

    @node("test.question")
    def ask(ctx) -> dict:
        if ctx.answer is None:
            raise WaitForAnswer("How many?", {"type": "integer"}, **asked)
        return {"value": ctx.answer["value"]}

    registry.store()
    yield asked
    del registry["test.question"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"answer_by": 0}, "answer_by is a number of seconds"),
        ({"answer_by": float("nan")}, "answer_by is a number of seconds"),
        ({"answer_by": 1e12}, "answer_by is a number of seconds"),
        ({"answer_by": 60, "unanswered": "default", "default": "many"}, "doesn't fit"),
        ({"answer_by": 60, "unanswered": "explode"}, "unanswered is one of"),
    ],
)
def test_a_question_with_impossible_terms_fails(run_graph, question, options, problem):
    question |= options
    run = run_graph("a", kinds={"a": "test.question"})
    assert (run.status, by_node(run)) == ("failed", {"a": ["ERRORED"]})
    assert problem in run.states.get().error
    assert not AnswerDeadline.objects.exists()


def test_a_default_is_the_value_of_the_answer(run_graph, drain, question):
    question |= {"answer_by": 60, "unanswered": "default", "default": 7}
    run = run_graph("a", kinds={"a": "test.question"})
    let_time_pass(drain)
    assert outputs(run, "a") == [{"value": 7}]


def test_a_question_that_cannot_be_closed_does_not_hold_up_others(asking, drain, monkeypatch):
    first, second = asking(unanswered="refuse", fail_if_refused=False), asking()
    store_answer = overdue_answers.store_answer

    def broken(run, *args, **options):
        if run.pk == first.pk:
            raise RuntimeError("broken")
        store_answer(run, *args, **options)

    monkeypatch.setattr(overdue_answers, "store_answer", broken)
    let_time_pass(drain)
    second.refresh_from_db()
    assert second.status == "failed"
    deadline = AnswerDeadline.objects.get()
    assert (deadline.run_id, deadline.at > sql.clock()) == (first.pk, True), "it is tried again"


def test_a_second_question_without_a_limit_has_none(run_graph, drain, make_key):
    """The node asks with a limit, is answered, and asks once more without one."""

    @node("test.twice")
    def ask(ctx) -> dict:
        if ctx.answer is None:
            raise WaitForAnswer("First?", {}, answer_by=60)
        raise WaitForAnswer("Second?")

    registry.store()
    try:
        run = run_graph("a", kinds={"a": "test.twice"})
        answer_state(run, run.states.get().pk, 1, SYSTEM)
        drain()
        assert not AnswerDeadline.objects.exists()
        [state] = ApiClient(make_key("read"))("GET", f"/runs/{run.run_id}/states")[1]["states"]
        assert (state["waiting_for"]["question"], state["answer_by"]) == ("Second?", None)
    finally:
        del registry["test.twice"]
