"""The orderings of the list of runs: by each of its columns, in both directions.

An index answers the orderings of INDEXED, whatever the number of runs. The others sort the runs
that match: their columns change with every batch, where an index would cost more than it gives, or
have few values. So at most MAX_SORTED runs are sorted by them.
"""

from collections.abc import Mapping
from typing import Any, cast

from django.db.models import F, OrderBy, QuerySet, TextField
from django.db.models.functions import Cast

from graphs.definition import errors
from runs.models import Run
from runs.queries import lists
from runs.queries.lists import Ordering

DEFAULT = "-time"
MAX_SORTED = 100_000
_THEN_NEWEST = ("-created_at", "-id")
# A run that has not finished comes after all that have, as PostgreSQL's index has it.
_FINISHED = (F("finished_at").asc(nulls_last=True), "id")
INDEXED: Mapping[str, Ordering] = {
    "time": ("created_at", "id"),
    "status": ("status", *_THEN_NEWEST),
    "id": ("run_id", "id"),
    "name": ("name", *_THEN_NEWEST),
    "username": ("username", *_THEN_NEWEST),
    "workspace": ("workspace", *_THEN_NEWEST),
    "finished": _FINISHED,
}
_SORTED: Mapping[str, Any] = {
    "progress": F("progress"),
    "duration": F("finished_at") - F("started_at"),
    "graph": F("graph__name"),
    "namespace": F("namespace__name"),
    "node": F("current_node"),
    "reruns": F("rerun_count"),
    "trigger": F("trigger"),
    "labels": Cast("labels", TextField()),
    "session": F("session_id"),
    "dataset": F("dataset__name"),
}


def _reversed(ordering: Ordering) -> Ordering:
    return tuple(_opposite(part) for part in ordering)


def _opposite(part: str | OrderBy) -> str | OrderBy:
    if isinstance(part, OrderBy):
        return cast(F, part.expression).desc(nulls_first=True)
    return part.removeprefix("-") if part.startswith("-") else f"-{part}"


def _all() -> dict[str, Ordering]:
    """The orderings by their names, which are those of the columns; a minus reverses them."""
    orderings = dict(INDEXED)
    orderings |= {f"-{name}": _reversed(ordering) for name, ordering in INDEXED.items()}
    for name, value in _SORTED.items():
        # Runs that have no value come last in both directions.
        orderings[name] = (value.asc(nulls_last=True), *_THEN_NEWEST)
        orderings[f"-{name}"] = (value.desc(nulls_last=True), *_THEN_NEWEST)
    return orderings


ORDERINGS: Mapping[str, Ordering] = _all()


def named(name: str) -> Ordering:
    """The ordering of this name. Raises Malformed if there is none."""
    if name not in ORDERINGS:
        raise errors.Malformed(
            f"ordering is one of {', '.join([*INDEXED, *_SORTED])}; a minus before it reverses it."
        )
    return ORDERINGS[name]


def refusal(name: str, count: int) -> str:
    """Why so many runs can't be sorted in this way; "" if they can."""
    if name.removeprefix("-") in INDEXED or count <= MAX_SORTED:
        return ""
    return (
        f"More than {MAX_SORTED:,} runs match, which is too many to sort by {name.lstrip('-')}."
        f" Filter them, or sort them by one of {', '.join(INDEXED)}."
    )


def refusal_for(name: str, runs: QuerySet[Run], key: str) -> str:
    """Why these runs can't be sorted in this way; "" if they can. They are counted if need be,
    and a large number is cached under the key.
    """
    if name.removeprefix("-") in INDEXED:
        return ""
    return refusal(name, lists.total_up_to(runs, MAX_SORTED + 1, f"sorted {key}"))
