"""`langgraph.run`: whose thread an attempt works on, and which answer is for which question."""

import pytest

pytest.importorskip("langgraph.checkpoint.base")

from graphs.auth.callers import SYSTEM
from graphs.nodes.base import RunAgain
from runs import nodes
from runs.engine.answer import answer_state
from runs.engine.start import RunOptions, start_run
from runs.models import State
from tests.support import langgraph_apps
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db(transaction=True)
APPS = ("doubling", "two_questions", "two_people")


@pytest.fixture(autouse=True)
def _apps(settings):
    settings.LANGGRAPH_APPS = {name: f"{langgraph_apps.__name__}.{name}" for name in APPS}


@pytest.fixture
def asking(publish, drain):
    """asking("two_people") → (run, answer): `answer` gives an answer to what is asked now and returns what is asked next, or the outputs."""

    def begin(app):
        run = start_run(
            publish(
                "lg",
                kinds={"lg": "langgraph.run"},
                inputs={"lg": {"app": app, "input": {"said": []}}},
            ),
            RunOptions(run_id="asked"),
        )

        def now():
            drain()
            state = State.objects.get(run=run)
            return (
                state.waiting_for["question"]
                if state.waiting_for
                else (
                    state.status,
                    state.outputs["values"]["said"] if state.outputs else state.error,
                )
            )

        def answer(value):
            answer_state(run, State.objects.get(run=run).pk, value, SYSTEM)
            return now()

        return now(), answer

    return begin


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
    found = [state.outputs for state in run.states.filter(identifier="lg").order_by("path")]
    assert [each["values"]["amount"] for each in found] == [0, 2, 4, 6, 8]
    assert len({each["thread"] for each in found}) == 5


def test_no_two_runs_share_a_thread(publish, drain):
    """Neither where the run's id and the node's name end the same together, nor where both are long."""
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
    found = [state.outputs for state in State.objects.all()]
    assert [each["values"]["amount"] for each in found] == [2] * 4
    assert len({each["thread"] for each in found}) == 4


def test_a_task_that_asks_twice_gets_two_answers(asking):
    asked, answer = asking("two_questions")
    assert asked == "first?"
    assert answer("one") == "second?"
    assert answer("two") == ("SUCCESS", ["one", "two"])


def test_two_tasks_that_ask_at_once_are_answered_one_after_the_other(asking):
    asked, answer = asking("two_people")
    other = {"left?": "right?", "right?": "left?"}[asked]
    assert answer(asked) == other
    assert answer(other) == ("SUCCESS", ["left?", "right?"])


@pytest.mark.parametrize("at", ["_answers_current_question", "_question"])
def test_an_answer_is_for_the_question_that_it_was_given_to(asking, monkeypatch, at):
    """The attempt that has the first answer ends before it gives it to the application, or after: the next one gives it only if it was not taken."""
    asked, answer = asking("two_questions")
    assert asked == "first?"
    work, calls = getattr(nodes, at), []

    def dying(*given):
        calls.append(work(*given))
        if len(calls) == 1:
            raise RunAgain(0)
        return calls[-1]

    monkeypatch.setattr(nodes, at, dying)
    assert answer("one") == "second?"
    assert len(calls) > 1
    assert answer("two") == ("SUCCESS", ["one", "two"])
