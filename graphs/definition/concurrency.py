"""The concurrency limit of a graph: how many of its runs may be active at once.

`settings.concurrency` of a definition:

- `limit`: the number of runs.
- `key`: an expression over `inputs` and `labels`. The limit holds for the runs with the same value,
  such as those of one customer; without a key it holds for all runs of the graph.
- `at_limit`: what becomes of a run that starts when there are as many. By default it waits
  ("queue"). It may also be cancelled itself ("skip"), or take the place of the runs that wait
  ("cancel_queued") or of the one that has been active longest ("cancel_running").
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from graphs.definition import errors, payloads
from graphs.definition.expressions import (
    EvaluationFailed,
    Expression,
    Refused,
    compiled,
    stored,
)
from graphs.definition.types import ConcurrencySettings, Json

MAX_LIMIT = 10_000
MAX_KEY = 200  # characters of a value
LARGE = 2**53  # beyond it not every integer is a float
QUEUE, SKIP, CANCEL_QUEUED, CANCEL_RUNNING = "queue", "skip", "cancel_queued", "cancel_running"
AT_LIMIT = (QUEUE, SKIP, CANCEL_QUEUED, CANCEL_RUNNING)


@dataclass(frozen=True)
class Concurrency:
    """The limit as the engine sees it."""

    limit: int
    key: Expression | Refused | None
    at_limit: str

    @classmethod
    def of(cls, settings: ConcurrencySettings | None) -> "Concurrency | None":
        if not settings:
            return None
        key = settings.get("key")
        return cls(
            settings["limit"], stored(key) if key else None, settings.get("at_limit") or QUEUE
        )

    def key_of(self, inputs: Mapping[str, Json], labels: Mapping[str, str]) -> str:
        """What runs with the same value of the key share; "" without a key. Raises Malformed."""
        if self.key is None:
            return ""
        try:
            value = self.key.evaluate_with({"inputs": dict(inputs), "labels": dict(labels)})
        except EvaluationFailed as error:
            raise errors.Malformed(f"The key of the concurrency limit: {error}.") from None
        if not isinstance(value, str | int | float):
            raise errors.Malformed(
                f"The key of the concurrency limit, {self.key.text!r}, must be a text, a number, "
                "true or false."
            )
        kind, text = _canonical(value)
        if len(text) > MAX_KEY or "\x00" in text:
            raise errors.Malformed(
                f"The key of the concurrency limit has {len(text):,} characters. It may have "
                f"{MAX_KEY}, and no NUL among them."
            )
        return f"{kind}:{text}"


def _canonical(value: str | int | float) -> tuple[str, str]:
    """The type of a value and its text, the same for equal values, as 1 and 1.0 are."""
    if isinstance(value, str):
        return "text", value
    if isinstance(value, bool):
        return "boolean", payloads.dump(value)
    if abs(value) < LARGE:
        return "number", str(int(value)) if value == int(value) else repr(value)
    # The database may give 1e300 back as an integer.
    return "number", repr(float(value)) if abs(value) <= sys.float_info.max else str(value)


def unknown_names(key: str) -> list[str]:
    """The names in an expression that no run has. Raises BadExpression."""
    return sorted(compiled(key).names - {"inputs", "labels"})
