"""How many labels a run may have, and how long they may be: one rule for every door."""

from collections.abc import Mapping

from graphs.definition import errors

MAX_LABELS = 50
MAX_KEY = 200
MAX_VALUE = 500


def check(labels: Mapping[str, object]) -> None:
    """Raises Malformed for labels that are too many or too long."""
    if len(labels) > MAX_LABELS:
        raise errors.Malformed(f"A run has at most {MAX_LABELS} labels.")
    for key, value in labels.items():
        if not 1 <= len(key) <= MAX_KEY or len(str(value)) > MAX_VALUE:
            raise errors.Malformed(
                f"The key of a label has 1 to {MAX_KEY} characters, its value at most {MAX_VALUE}."
            )
