"""The states of a run counted per node, in one compact text column.

Every recorded batch rewrites the column, so it has to be small: a node maps to
[known, succeeded, failed], and to the number alone while all of its known states succeeded.
"""

import json
from functools import lru_cache
from typing import Any, cast

from django.db import models

NodeCounts = dict[str, list[int]]

# Positions in the counts of a node.
KNOWN = 0
DONE = 1
BAD = 2


def dump(node_counts: NodeCounts) -> str:
    entries = [f"{_quoted(node)}:{_short(counts)}" for node, counts in node_counts.items()]
    return "{" + ",".join(entries) + "}"


@lru_cache(maxsize=10_000)
def _quoted(node: str) -> str:
    return json.dumps(node)


def _short(counts: list[int]) -> str:
    known, done, bad = counts
    return str(known) if known == done and not bad else f"[{known},{done},{bad}]"


def load(text: str) -> NodeCounts:
    return {
        node: counts if isinstance(counts, list) else [counts, counts, 0]
        for node, counts in json.loads(text or "{}").items()
    }


class NodeCountsField(models.TextField):
    """`NodeCounts` in Python, compact JSON text in the database."""

    def from_db_value(self, value: str, expression: object, connection: object) -> NodeCounts:
        return load(value)

    def to_python(self, value: Any) -> Any:
        return load(value) if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        return dump(value) if isinstance(value, dict) else value

    def value_to_string(self, obj: models.Model) -> str:
        return dump(cast(NodeCounts, self.value_from_object(obj)))
