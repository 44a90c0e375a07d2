"""When a failed attempt is tried again: `delay(policy, attempt)`, pure.

Three curves by three jitters make the nine strategies of the `/v0` contract (section A.6):
EXPONENTIAL, LINEAR and FIXED, each alone or with _FULL_JITTER or _EQUAL_JITTER.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
STRATEGIES = {curve + jitter: (curve, jitter) for curve in CURVES for jitter in JITTERS}
FOREVER_MS = 366 * 24 * 3600 * 1000.0

SCHEMA: dict[str, Any] = {
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
    def of(cls, *layers: Mapping[str, Any] | None) -> "Policy":
        """The policy that the layers make, later ones over earlier ones."""
        return cls(**{key: value for layer in layers for key, value in (layer or {}).items()})


def delay(policy: Policy, attempt: int, chance: random.Random | None = None) -> float:
    """Milliseconds to wait before retry number `attempt` (from 1); at most a year."""
    curve, jitter = STRATEGIES[policy.strategy]
    limit = min(policy.max_delay or FOREVER_MS, FOREVER_MS)
    try:
        base = CURVES[curve](policy, attempt)
    except OverflowError:
        base = FOREVER_MS
    return min(JITTERS[jitter](min(base, FOREVER_MS), chance or random.Random()), limit)
