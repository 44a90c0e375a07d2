"""The tree of reruns that a run belongs to."""

from collections import defaultdict
from dataclasses import dataclass

from django.db.models import Q

from graphs.auth.callers import Caller
from runs.core import statuses
from runs.models import Run

MAX_RUNS = 500


@dataclass(frozen=True)
class Branch:
    """A run of the tree, and how many of its ancestors are in the tree."""

    run: Run
    depth: int


def _tree(run: Run) -> Q:
    root = run.root or run.pk
    return Q(root=root) | Q(pk=root)


def tree_of(run: Run, caller: Caller) -> list[Branch]:
    """The runs of the tree that the caller sees, each parent before its children.

    A run whose parent was deleted, or is not visible, has the depth 0.
    """
    runs = list(
        Run.objects.visible_to(caller)
        .filter(_tree(run))
        .select_related("version")
        .defer("store", "data", "action_history")
        .order_by("pk")[:MAX_RUNS]
    )
    pks = {member.pk for member in runs}
    children: dict[int | None, list[Run]] = defaultdict(list)
    for member in runs:
        parent = member.parent_id if member.parent_id in pks else None
        children[parent].append(member)

    branches: list[Branch] = []
    stack = [Branch(member, 0) for member in reversed(children[None])]
    while stack:
        branch = stack.pop()
        branches.append(branch)
        below = reversed(children[branch.run.pk])
        stack += [Branch(member, branch.depth + 1) for member in below]
    return branches


def recovered_by(run: Run) -> Run | None:
    """The first later run of the tree that completed; None if this run did not fail."""
    if run.status not in statuses.UNSUCCESSFUL:
        return None
    later = Run.objects.filter(_tree(run), pk__gt=run.pk, status=statuses.COMPLETED)
    return later.order_by("pk").only("pk", "run_id", "name").first()
