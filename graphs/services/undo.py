"""Undo and redo of a draft's changes, whoever made them: each is a change itself, so that history stays whole."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction

from graphs.auth.callers import Caller
from graphs.definition import edits, errors
from graphs.models import Graph
from graphs.models.draft import DraftChange
from graphs.services import drafts, publish
from graphs.services.drafts import Draft


@dataclass(frozen=True)
class Steps:
    """What an undo and a redo would bring back: (revision, what was done), or None."""

    undo: tuple[int, str] | None
    redo: tuple[int, str] | None


def steps(changes: Iterable[tuple[int, str, int | None, bool]]) -> Steps:
    """From (revision, message, back_to, redo) of the changes that are kept, oldest first: a change forgets what was undone, as everywhere. Pure."""
    done: dict[int, str] = {}  # the revisions whose change holds, and what it was
    undone: dict[int, str] = {}
    known = {0}
    for revision, message, back_to, redo in changes:
        known.add(revision)
        if back_to is None:
            done[revision], undone = message, {}
        elif redo:
            done[back_to] = undone.pop(back_to, message)
        else:
            undone[back_to + 1] = done.pop(back_to + 1, message)
    last, next_ = next(reversed(done), None), next(reversed(undone), None)
    back = (last - 1, done[last]) if last is not None and last - 1 in known else None
    return Steps(back, (next_, undone[next_]) if next_ is not None and next_ in known else None)


def steps_of(graph: Graph) -> Steps:
    now = drafts.draft_of(graph)
    changes = list(
        DraftChange.objects.filter(graph=graph)
        .order_by("revision")
        .values_list("revision", "message", "back_to", "redo")
    )
    return steps(
        [
            *changes,
            *(
                [(now.revision + 1, drafts.published_as(now.base.version), None, False)]
                if drafts.follows(now)
                else []
            ),
        ]
    )


@transaction.atomic
def step(graph: Graph, caller: Caller, redo: bool = False) -> Draft:
    """Undo the last change of the draft, whoever made it, or redo what was undone last. Raises Conflict when there is nothing."""
    caller.require("start", graph.namespace_id)
    graph = publish.locked(graph)
    found = steps_of(graph)
    back = found.redo if redo else found.undo
    if back is None:
        raise errors.Conflict("There is nothing to redo." if redo else "There is nothing to undo.")
    row = DraftChange.objects.filter(graph=graph, revision=back[0]).first()
    first = DraftChange.objects.filter(graph=graph).order_by("revision").first()
    definition = row.definition if row else drafts.version_of(graph, first.version if first else 0)
    done = (
        DraftChange.objects.filter(graph=graph, revision=back[0] if redo else back[0] + 1)
        .values_list("renamed", flat=True)
        .first()
    )
    renamed = (done[0], done[1]) if done and redo else (done[1], done[0]) if done else None
    made = edits.Edit(definition, f"{'Redo' if redo else 'Undo'}: {back[1]}", renamed=renamed)
    return drafts.record(
        graph,
        drafts.caught_up(graph, drafts.draft_of(graph)),
        made,
        caller,
        back_to=back[0],
        redo=redo,
    )
