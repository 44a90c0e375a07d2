"""What the forms of several pages share."""

from collections.abc import Iterable

from graphs.definition import errors

MAX_SHOWN = 60  # characters of a wrong label that the message quotes


def labels_of(text: str) -> dict[str, str]:
    """Labels from text such as `team=data stage=test`, separated by white space.

    Raises Malformed for a word without a key or a value, and for a key with two values.
    """
    labels: dict[str, str] = {}
    for word in text.split():
        key, _, value = word.partition("=")
        if not (key and value):
            raise errors.Malformed(
                f"{word[:MAX_SHOWN]!r} is not a label. Write labels as key=value."
            )
        if labels.setdefault(key, value) != value:
            raise errors.Malformed(f"The label {key[:MAX_SHOWN]!r} is there with two values.")
    return labels


def has_inputs(names: Iterable[str]) -> bool:
    """Whether a form with these field names sent a run's inputs (`rerun.inputs_form`)."""
    return any(name == "inputs" or name.startswith("input-") for name in names)
