"""`langgraph.run`: which thread an attempt uses, and which question an answer belongs to."""

import pytest

pytest.importorskip("langgraph.checkpoint.base")

from graphs.auth.callers import SYSTEM
from graphs.nodes.base import RunAgain
from runs import nodes
from runs.engine.answer import answer_state
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import State
from tests.support import langgraph_apps
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db(transaction=True)
APPS = ("doubling", "two_questions", "two_people")


@pytest.fixture(autouse=True)
def _apps(conf):
    conf.LANGGRAPH_APPS = {name: f"{langgraph_apps.__name__}.{name}" for name in APPS}


@pytest.fixture
def asking(publish, drain):
    """A function that starts an application, and returns its first question and a function.

    That function answers the current question. It returns the next question, or the status of the
    state with its outputs.
    """

    def start(app):
        run = start_run(
            publish(
                "lg",
                kinds={"lg": "langgraph.run"},
                inputs={"lg": {"app": app, "input": {"said": []}}},
            ),
            RunOptions(run_id="asked"),
        )

        def question_or_result():
            drain()
            state = State.objects.get(run=run)
            if state.waiting_for:
                return state.waiting_for["question"]
            if state.outputs:
                return state.status, state.outputs["values"]["said"]
            return state.status, state.error

        def answer(value):
            answer_state(run, State.objects.get(run=run).pk, value, SYSTEM)
            return question_or_result()

        return question_or_result(), answer

    return start


def test_each_item_of_a_fan_out_has_a_thread_of_its_own(run_graph):
    run = run_graph(
        "f>lg",
        kinds={"f": "fan_out", "lg": "langgraph.run"},
        inputs={
            "f": {"items": list(range(5))},
            "lg": {"app": "doubling", "input": {"amount": "${{ f.outputs.item }}"}},
        },
    )
    assert by_node(run)["lg"] == ["SUCCESS"] * 5
    outputs = [state.outputs for state in run.states.filter(identifier="lg").order_by("path")]
    assert [output["values"]["amount"] for output in outputs] == [0, 2, 4, 6, 8]
    assert len({output["thread"] for output in outputs}) == 5


def test_no_two_runs_share_a_thread(publish, drain):
    """Not even if run id and node name are the same when they are joined, or both are long."""
    long = "n" * 190
    for run_id, node in (
        ("a-b", "c"),
        ("a", "b-c"),
        ("r" * 199 + "1", long),
        ("r" * 199 + "2", long),
    ):
        graph = publish(
            node,
            name=f"of {run_id[-3:]}",
            kinds={node: "langgraph.run"},
            inputs={node: {"app": "doubling", "input": {"amount": 1}}},
        )
        start_run(graph, RunOptions(run_id=run_id))
    drain()
    outputs = [state.outputs for state in State.objects.all()]
    assert [output["values"]["amount"] for output in outputs] == [2] * 4
    assert len({output["thread"] for output in outputs}) == 4


def test_a_task_that_asks_twice_gets_two_answers(asking):
    question, answer = asking("two_questions")
    assert question == "first?"
    assert answer("one") == "second?"
    assert answer("two") == ("SUCCESS", ["one", "two"])


def test_two_tasks_that_ask_at_once_are_answered_one_after_the_other(asking):
    question, answer = asking("two_people")
    other_question = {"left?": "right?", "right?": "left?"}[question]
    assert answer(question) == other_question
    assert answer(other_question) == ("SUCCESS", ["left?", "right?"])


@pytest.mark.parametrize("function", ["_answers_current_question", "_question"])
def test_an_answer_belongs_to_the_question_that_was_asked(asking, monkeypatch, function):
    """The attempt with the first answer ends before or after it passes the answer on.

    The next attempt passes it on only if the application has not taken it yet.
    """
    question, answer = asking("two_questions")
    assert question == "first?"
    original = getattr(nodes, function)
    results = []

    def end_first_attempt(*args):
        results.append(original(*args))
        if len(results) == 1:
            raise RunAgain(0)
        return results[-1]

    monkeypatch.setattr(nodes, function, end_first_attempt)
    assert answer("one") == "second?"
    assert len(results) > 1
    assert answer("two") == ("SUCCESS", ["one", "two"])
