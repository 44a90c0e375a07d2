"""States that are made at any nodes, with inputs of their run and a delay."""

from datetime import timedelta

import pytest

from graphs.services.publish import publish_graph
from runs.models import Run, State
from tests.support.definitions import definition
from tests.support.v0_client import node

pytestmark = pytest.mark.django_db
CREATE = "graph/g/states/create"


def body(run_id="r", inputs_of_state=None, **members):
    states = [{"identifier": "a", "inputs": inputs_of_state or {}}]
    return {"run_id": run_id, "states": states, **members}


@pytest.fixture
def graph(api):
    api.register("Greet", inputs={"text": "string"})
    greeting = {"text": "${{ run.inputs.greeting }}"}
    api.upsert("g", node("a", ["b"]), node("b", name="Greet", inputs=greeting))


def test_later_nodes_refer_to_the_inputs_of_the_run(api, graph):
    assert api.post(CREATE, body(inputs={"greeting": "hello"}))[0] == 200
    assert Run.objects.get().initial_data == {"greeting": "hello"}
    assert State.objects.get().inputs == {}
    assert api.work("Work") == 1
    assert State.objects.get(identifier="b").inputs == {"text": "hello"}


def test_states_with_a_delay_can_be_claimed_later(api, graph):
    assert api.post(CREATE, body(start_delay=3_600_000))[0] == 200
    state = State.objects.get()
    assert state.due_at > state.created_at + timedelta(minutes=59)
    assert api.post("states/enqueue", {"nodes": ["Work"], "batch_size": 9})[1]["count"] == 0
    assert api.post(CREATE, body())[0] == 200
    assert api.post("states/enqueue", {"nodes": ["Work"], "batch_size": 9})[1]["count"] == 1


def test_a_run_keeps_the_inputs_with_which_it_was_made(api, graph):
    assert api.post(CREATE, body(inputs={"n": 1}))[0] == 200
    assert api.post(CREATE, body(inputs={"n": 1}))[0] == 200
    assert api.post(CREATE, body())[0] == 200
    for other in ({"n": 2}, {"n": 1.0}, {"n": True}, {"n": 1, "m": 2}):
        status, answer = api.post(CREATE, body(inputs=other))
        assert (status, "has other inputs" in str(answer)) == (409, True)
    run = Run.objects.get()
    assert (run.initial_data, run.states.count()) == ({"n": 1}, 3)


@pytest.mark.parametrize(
    "members",
    [
        {"inputs": []},
        {"inputs": "x"},
        {"start_delay": -1},
        {"start_delay": "soon"},
        {"start_delay": 10**18},
    ],
)
def test_wrong_members_are_refused(api, graph, members):
    assert api.post(CREATE, body(**members))[0] == 422
    assert not Run.objects.exists()


def test_the_inputs_of_the_run_fit_the_schema_of_its_graph(namespace, api):
    schema = {"properties": {"n": {"type": "integer"}, "m": {"default": 5}}, "required": ["n"]}
    publish_graph(namespace, "g", {**definition("a"), "inputs": schema})
    assert api.post(CREATE, body("free"))[0] == 200
    status, answer = api.post(CREATE, body(inputs={"n": "x"}))
    assert status == 422
    assert "n: " in str(answer)
    assert api.post(CREATE, body(inputs={"n": 1}))[0] == 200
    assert Run.objects.get(run_id="r").initial_data == {"n": 1, "m": 5}


def test_the_older_trigger_has_inputs_and_a_delay_for_its_states(api, graph):
    trigger = {**body(), "inputs": {"greeting": "hi"}, "start_delay": 3_600_000}
    assert api.post("graph/g/trigger", trigger)[0] == 200
    run = Run.objects.get()
    assert run.initial_data == {"greeting": "hi"}
    assert run.states.get().due_at > run.created_at + timedelta(minutes=59)
