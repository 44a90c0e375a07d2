"""How long a failed attempt waits before it is tried again. Pure.

Three curves (EXPONENTIAL, LINEAR, FIXED) and three jitters (none, _FULL_JITTER, _EQUAL_JITTER)
make the nine strategies that the `/v0` API knows.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from graphs.definition.types import Json, JsonObject

CURVES: dict[str, Callable[["Policy", int], float]] = {
    "EXPONENTIAL": lambda policy, attempt: policy.backoff_factor * policy.exponent ** (attempt - 1),
    "LINEAR": lambda policy, attempt: policy.backoff_factor * attempt,
    "FIXED": lambda policy, attempt: policy.backoff_factor,
}
JITTERS: dict[str, Callable[[float, random.Random], float]] = {
    "": lambda base, chance: base,
    "_FULL_JITTER": lambda base, chance: chance.uniform(0, base),
    "_EQUAL_JITTER": lambda base, chance: base / 2 + chance.uniform(0, base / 2),
}
STRATEGIES = {curve + jitter: (curve, jitter) for curve in CURVES for jitter in JITTERS}  # names
FOREVER_MS = 366 * 24 * 3600 * 1000.0

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "max_retries": {"type": "integer", "minimum": 0, "maximum": 1000},
        "strategy": {"enum": sorted(STRATEGIES)},
        "backoff_factor": {"type": "number", "exclusiveMinimum": 0},
        "exponent": {"type": "number", "exclusiveMinimum": 0},
        "max_delay": {"type": ["number", "null"], "exclusiveMinimum": 0},
    },
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how late to try again. `backoff_factor` and `max_delay` are milliseconds."""

    max_retries: int = 0
    strategy: str = "EXPONENTIAL"
    backoff_factor: float = 2000
    exponent: float = 2
    max_delay: float | None = None

    @classmethod
    def of(cls, *layers: Mapping[str, Json] | None) -> "Policy":
        """The policy made of several layers; later ones override earlier ones."""
        members: JsonObject = {}
        for layer in layers:
            members |= layer or {}
        return cls(**members)


def delay(policy: Policy, attempt: int, chance: random.Random | None = None) -> float:
    """Milliseconds to wait before retry number `attempt` (from 1); at most a year."""
    curve, jitter = STRATEGIES[policy.strategy]
    limit = min(policy.max_delay or FOREVER_MS, FOREVER_MS)
    try:
        base = CURVES[curve](policy, attempt)
    except OverflowError:
        base = FOREVER_MS
    jittered = JITTERS[jitter](min(base, FOREVER_MS), chance or random.Random())
    return min(jittered, limit)
