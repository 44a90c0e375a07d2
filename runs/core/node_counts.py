"""The states of a run counted per node, in one small text column, because every slice rewrites it.

A node maps to [its states, those that succeeded, those that failed for good]; while all succeeded, the text holds just the number.
"""

import json
from typing import Any, cast

from django.db import models

NodeCounts = dict[str, list[int]]
KNOWN, DONE, BAD = 0, 1, 2


def dump(node_counts: NodeCounts) -> str:
    return (
        "{"
        + ",".join(f"{json.dumps(node)}:{_short(counts)}" for node, counts in node_counts.items())
        + "}"
    )


def _short(counts: list[int]) -> str:
    known, done, bad = counts
    return str(known) if known == done and not bad else f"[{known},{done},{bad}]"


def load(text: str) -> NodeCounts:
    return {
        node: counts if isinstance(counts, list) else [counts, counts, 0]
        for node, counts in json.loads(text or "{}").items()
    }


class NodeCountsField(models.TextField):
    """A `NodeCounts` in Python, compact JSON text in the database."""

    def from_db_value(self, value: str, expression: Any, connection: Any) -> NodeCounts:
        return load(value)

    def to_python(self, value: Any) -> Any:
        return load(value) if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        return dump(value) if isinstance(value, dict) else value

    def value_to_string(self, obj: models.Model) -> str:
        return dump(cast(NodeCounts, self.value_from_object(obj)))
