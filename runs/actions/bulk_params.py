"""The parameters of the actions of bulk operations."""

from collections.abc import Collection, Mapping
from typing import Any

from graphs.definition import errors, labels, payloads
from graphs.definition.types import JsonObject
from runs.actions.export import FORMATS
from runs.core import statuses

# For each action that has parameters their names, and the values that they may have. Those without
# values are checked by what takes them.
PARAMS: Mapping[str, Mapping[str, Collection[str]]] = {
    "delete": {"active": ("skip", "delete")},
    "rerun": {"version": ("original", "newest"), "from": ("start", "failed"), "inputs": ()},
    "label": {"add": (), "remove": ()},
    "set_status": {"status": ()},
    "export": {"format": tuple(FORMATS), "columns": (), "ordering": ()},
}


def check(action: str, params: JsonObject, reason: str) -> None:
    """Raises Malformed for parameters that don't suit the action."""
    known = PARAMS.get(action, {})
    problems = []
    for name, value in params.items():
        if name not in known:
            problems.append(f"The action {action} has no parameter {name[:100]!r}.")
        elif known[name] and value not in known[name]:
            problems.append(f"The parameter {name} is one of {', '.join(known[name])}.")
    if problems:
        raise errors.Malformed(" ".join(problems))
    if "inputs" in params:
        _check_inputs(params)
    if action == "set_status":
        _check_status(params, reason)
    if action == "label":
        _check_labels(params.get("add", {}), params.get("remove", []))


def _check_inputs(params: JsonObject) -> None:
    """Raises Malformed for inputs that no run could have, and for those of a partial rerun."""
    if not isinstance(params["inputs"], dict):
        raise errors.Malformed('`inputs` is an object, such as {"limit": 5}.')
    if params.get("from") == "failed":
        raise errors.Malformed("The inputs can only be changed in a rerun from the start.")
    try:
        payloads.dump(params["inputs"])
    except payloads.NotJson as error:
        raise errors.Malformed(f"The inputs can't be stored: {error}.") from None


def _check_status(params: JsonObject, reason: str) -> None:
    ends_run = params.get("status") in statuses.ENDED_RUNS
    if not (ends_run and reason.strip()):
        choices = ", ".join(statuses.ENDED_RUNS)
        raise errors.Malformed(f"Setting a status needs one of {choices} and a reason.")


def _check_labels(add: Any, remove: Any) -> None:
    if not (_are_texts(add, dict) and _are_texts(remove, list)):
        raise errors.Malformed("`add` maps labels to texts, `remove` is a list of labels.")
    labels.check(add)
    labels.check(dict.fromkeys(remove, ""))
    both = add.keys() & set(remove)
    if both:
        raise errors.Malformed(f"The label {min(both)!r} can't be added and removed at once.")
    if not (add or remove):
        raise errors.Malformed("Say which labels to add or to remove.")


def _are_texts(values: object, kind: type[dict] | type[list]) -> bool:
    if not isinstance(values, kind):
        return False
    texts = values.values() if isinstance(values, dict) else values
    return all(isinstance(text, str) for text in texts)
