"""Definitions whose problems would take long to find, or much memory to say."""

from time import process_time

import pytest

from graphs.definition.problems import MAX_LISTED, Kind, listed
from graphs.definition.validation import problems

NAMES = [f"p{at}" for at in range(20_000)]
CASES = {
    "store": {"settings": {"store": {"required_keys": NAMES}}},
    "run.inputs": {
        "inputs": {"additionalProperties": False, "properties": dict.fromkeys(NAMES[:9_000], True)}
    },
}


@pytest.mark.parametrize(("source", "rest"), CASES.items(), ids=CASES)
def test_many_references_to_one_of_many_names_are_judged_in_linear_time(source, rest):
    inputs = {"a": [f"${{{{ {source}.unknown }}}}"] * 5_000}
    node = {"id": "a", "kind": "log", "data": {"inputs": inputs}}
    began = process_time()
    found = problems(
        {"nodes": [node], "edges": [], **rest}, lambda namespace, name: Kind("builtin", None, None)
    )
    assert process_time() - began < 5
    assert len(found) == 5_000
    assert max(len(problem.message) for problem in found) < 500


def test_a_message_lists_the_first_names():
    assert listed([]) == "none"
    assert listed({"a": 1, "b": 2}) == "a, b"
    assert listed(NAMES[: MAX_LISTED + 2]).endswith("p19 and 2 others")
    assert len(listed(["x" * 10_000] * 3)) < 500
