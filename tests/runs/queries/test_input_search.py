"""Runs are found by what they were started with, the same ones on both databases."""

import pytest

from graphs.auth.callers import SYSTEM
from runs.engine.start import RunOptions, start_run
from runs.models import Run, RunInput
from runs.queries.filters import InvalidFilters, RunFilters

pytestmark = pytest.mark.django_db

VALUES = {
    "a": 42,
    "b": "42",
    "c": 42.0,
    "d": True,
    "e": "true",
    "f": None,
    "g": "null",
    "h": "Ärger",
    "i": "ärger",
    "j": "",
    "k": [42],
    "l": {"id": 42},
    "m": 9007199254740993,
    "n": 9007199254740992,
    "o": 1e23,
    "p": 0.1,
    "q": 'say "hi"',
    "r": -0.0,
    "s": "a b",
    "t": "x" * 5000,
    "u": "a=b",
    "v": False,
    "w": 1,
}
NONE = "z"  # has no such input
ALL = {*VALUES, NONE}


@pytest.fixture
def runs(publish):
    """Runs whose ids are the letters in VALUES, and one without the input."""
    paths = ["customer.id", 'customer["first name"]', "ключ", "items[1]"]
    graph = publish("a", settings={"indexed_inputs": paths})
    for letter, value in VALUES.items():
        start_run(graph, RunOptions(run_id=letter, inputs={"customer": {"id": value}}))
    inputs = {"customer": {"first name": "Ada"}, "ключ": "знач", "items": [1, "two"]}
    start_run(graph, RunOptions(run_id=NONE, inputs=inputs))
    return graph


def found(text, **filters):
    matching = RunFilters.of_mapping({"search": text, **filters}).apply(Run.objects.all(), SYSTEM)
    return "".join(sorted(matching.values_list("run_id", flat=True)))


SEARCHES = {
    "input:customer.id=42": "ac",
    "input:customer.id=42.0": "ac",
    "input:customer.id=4.2e1": "ac",
    'input:customer.id="42"': "b",
    "input:customer.id=true": "d",
    'input:customer.id="true"': "e",
    "input:customer.id=True": "",
    "input:customer.id=1": "w",
    "input:customer.id=0": "r",
    "input:customer.id=false": "v",
    "input:customer.id=null": "f",
    'input:customer.id="null"': "g",
    "input:customer.id=Ärger": "h",
    "input:customer.id=ärger": "i",
    "input:customer.id=": "j",
    'input:customer.id=""': "j",
    "input:customer.id=9007199254740993": "m",
    "input:customer.id=9007199254740992": "n",
    "input:customer.id=1e23": "o",
    "input:customer.id=100000000000000000000000": "o",
    "input:customer.id=0.1": "p",
    "input:customer.id=1e-1": "p",
    'input:customer.id="say \\"hi\\""': "q",
    'input:customer.id="a b"': "s",
    'input:"customer.id=a b"': "s",
    f"input:customer.id={'x' * 1900}": "",
    "input:customer.id=a=b": "u",
    "input:customer.id=1e999": "",
    'input:customer.id="\\u0000"': "",
    'input:customer.id="\\ud800"': "",
    "input:customer.id=*": "",
    "input:customer.id": "abcdefghijklmnopqrstuvw",
    'INPUT:customer["id"]': "abcdefghijklmnopqrstuvw",
    'input:customer["first name"]=Ada': "z",
    'input:["customer"]["first name"]': "z",
    "input:ключ=знач": "z",
    'input:["ключ"]="знач"': "z",
    "input:КЛЮЧ=знач input:ключ=знач": "refused",
    "input:items[1]=two": "z",
    "input:items[0]=1": "refused",
}


def answer(text):
    try:
        return found(text)
    except InvalidFilters as error:
        assert "indexed_inputs" in str(error)
        return "refused"


def test_inputs_are_found_by_their_exact_value(runs):
    assert {text: answer(text) for text in SEARCHES} == SEARCHES


def test_a_negated_input_finds_all_other_runs(runs):
    tokens = [text for text, letters in SEARCHES.items() if letters != "refused"]
    others = {text: "".join(sorted(ALL - set(SEARCHES[text]))) for text in tokens}
    assert {text: found(f"-{text}") for text in tokens} == others


def test_values_are_not_stored_a_second_time(runs):
    columns = {field.get_internal_type() for field in RunInput._meta.get_fields()}
    assert columns == {"BigAutoField", "ForeignKey", "UUIDField"}
