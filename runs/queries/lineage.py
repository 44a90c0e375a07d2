"""The tree of reruns that a run belongs to."""

from collections import defaultdict
from dataclasses import dataclass

from django.db.models import Q

from graphs.auth.callers import Caller
from runs.core import statuses
from runs.models import Run

MOST = 500


@dataclass(frozen=True)
class Branch:
    """A run of the tree and how deep it stands."""

    run: Run
    depth: int


def _tree(run: Run) -> Q:
    root = run.root or run.pk
    return Q(root=root) | Q(pk=root)


def tree_of(run: Run, caller: Caller) -> list[Branch]:
    """The runs of the tree that the caller sees, parents before their children. Those whose parent is gone stand at the top."""
    runs = list(
        Run.objects.visible_to(caller)
        .filter(_tree(run))
        .select_related("version")
        .defer("store", "data", "action_history")
        .order_by("pk")[:MOST]
    )
    known = {each.pk for each in runs}
    children: dict[int | None, list[Run]] = defaultdict(list)
    for each in runs:
        children[each.parent_id if each.parent_id in known else None].append(each)
    found: list[Branch] = []
    waiting = [Branch(each, 0) for each in reversed(children[None])]
    while waiting:
        at = waiting.pop()
        found.append(at)
        waiting += [Branch(each, at.depth + 1) for each in reversed(children[at.run.pk])]
    return found


def recovered_by(run: Run) -> Run | None:
    """The first later rerun in the tree that completed, if this run failed."""
    if run.status not in (statuses.FAILED, statuses.PARTIAL):
        return None
    return (
        Run.objects.filter(_tree(run), pk__gt=run.pk, status=statuses.COMPLETED)
        .order_by("pk")
        .only("pk", "run_id", "name")
        .first()
    )
