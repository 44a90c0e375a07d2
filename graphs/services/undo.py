"""Undo and redo of the changes of a draft, whoever made them.

An undo is itself a change, so the history stays complete: it adds a revision whose content is that
of an older one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.edits import Edit
from graphs.definition.types import Definition
from graphs.models import Graph
from graphs.models.draft import DraftChange
from graphs.services import drafts
from graphs.services.drafts import Draft
from graphs.services.publish import lock_graph

Step = tuple[int, str]  # the revision to restore, and what was done


@dataclass(frozen=True)
class Steps:
    """What undo and redo would do next, or None where there is nothing to undo or redo."""

    undo: Step | None
    redo: Step | None


def steps(changes: Iterable[tuple[int, str, int | None, bool]]) -> Steps:
    """The next undo and redo after these changes. Pure.

    A change is (revision, message, back_to, redo); the oldest comes first. `back_to` is the
    revision that an undo or a redo restored, and None for an ordinary change. An ordinary change
    ends the possibility of a redo.
    """
    done: dict[int, str] = {}  # the revisions whose changes are in effect, and their messages
    undone: dict[int, str] = {}
    known = {0}
    for revision, message, back_to, redo in changes:
        known.add(revision)
        if back_to is None:
            done[revision] = message
            undone = {}
        elif redo:
            done[back_to] = undone.pop(back_to, message)
        else:
            undone[back_to + 1] = done.pop(back_to + 1, message)

    last_done = next(reversed(done), None)
    last_undone = next(reversed(undone), None)
    undo_step = redo_step = None
    if last_done is not None and last_done - 1 in known:
        undo_step = last_done - 1, done[last_done]
    if last_undone is not None and last_undone in known:
        redo_step = last_undone, undone[last_undone]
    return Steps(undo_step, redo_step)


def steps_of(graph: Graph) -> Steps:
    """The next undo and redo of a graph's draft.

    A version that was published past the draft counts as its newest change.
    """
    now = drafts.draft_of(graph)
    changes = list(
        DraftChange.objects.filter(graph=graph)
        .order_by("revision")
        .values_list("revision", "message", "back_to", "redo")
    )
    if drafts.follows(now):
        changes.append((now.revision + 1, drafts.published_as(now.base.version), None, False))
    return steps(changes)


@transaction.atomic
def step(graph: Graph, caller: Caller, redo: bool = False) -> Draft:
    """Undo the last change of a draft, or redo the change that was undone last.

    Raises Conflict if there is nothing to undo or redo.
    """
    caller.require("start", graph.namespace_id)
    graph = lock_graph(graph)
    next_steps = steps_of(graph)
    next_step = next_steps.redo if redo else next_steps.undo
    if next_step is None:
        raise errors.Conflict("There is nothing to redo." if redo else "There is nothing to undo.")

    revision, message = next_step
    edit = Edit(
        _definition_at(graph, revision),
        f"{'Redo' if redo else 'Undo'}: {message}",
        renamed=_rename(graph, revision, redo),
    )
    now = drafts.caught_up(graph, drafts.draft_of(graph))
    return drafts.record(graph, now, edit, caller, back_to=revision, redo=redo)


def _definition_at(graph: Graph, revision: int) -> Definition:
    """The definition at a revision. Revision 0 is the version from which the draft started."""
    changes = DraftChange.objects.filter(graph=graph)
    change = changes.filter(revision=revision).first()
    if change:
        return change.definition.copy()
    first = changes.order_by("revision").first()
    return drafts.version_of(graph, first.version if first else 0)


def _rename(graph: Graph, revision: int, redo: bool) -> tuple[str, str] | None:
    """The rename that going to a revision repeats (redo) or reverts (undo), if there is one."""
    changed_at = revision if redo else revision + 1
    renamed = (
        DraftChange.objects.filter(graph=graph, revision=changed_at)
        .values_list("renamed", flat=True)
        .first()
    )
    if not renamed:
        return None
    old, new = renamed
    return (old, new) if redo else (new, old)
