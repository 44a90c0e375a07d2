"""The draft of a graph: read, changed, undone, published. One writer at a time; who comes second is merged, or told."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from graphs import editing, errors, merging, names, publishing, validation
from graphs.access import Caller
from graphs.draft_models import DraftChange
from graphs.models import Graph, Namespace

KEPT = 100  # changes of a draft that can be undone, merged with and looked up


@dataclass(frozen=True)
class Draft:
    """A graph as somebody draws it. `revision` 0 is the published version itself, which nobody has changed yet."""

    revision: int
    definition: dict[str, Any]
    change: DraftChange | None = None


class Conflicting(errors.Conflict):
    """Somebody else changed the same pieces meanwhile; `merged` is what both did, with theirs where they disagree."""

    status = 412

    def __init__(self, theirs: Draft, conflicts: list[merging.Conflict], merged: dict[str, Any]) -> None:
        who = theirs.change.made_by if theirs.change else "somebody"
        places = [conflict.where for conflict in conflicts]
        super().__init__(f"{who} changed the same meanwhile: {', '.join(places[:5])}.", revision=theirs.revision, conflicts=places)
        self.theirs, self.conflicts, self.merged = theirs, conflicts, merged


def draft_of(graph: Graph) -> Draft:
    newest = DraftChange.objects.filter(graph=graph).order_by("-revision").first()
    if newest is not None:
        return Draft(newest.revision, newest.definition, newest)
    return Draft(0, _published(graph))


def _published(graph: Graph) -> dict[str, Any]:
    return dict(graph.current.definition) if graph.current else dict(editing.EMPTY)


def at_revision(graph: Graph, revision: int) -> dict[str, Any]:
    """The definition of a former revision. Raises Conflict when it is too old to be known."""
    found = DraftChange.objects.filter(graph=graph, revision=revision).values_list("definition", flat=True).first()
    if found is None and (revision or DraftChange.objects.filter(graph=graph, revision__gt=KEPT).exists()):
        raise errors.Conflict("The draft was changed very often since this page was opened. Open it again.")
    return found if found is not None else _first(graph)


def _first(graph: Graph) -> dict[str, Any]:
    """What revision 0 was: the version that was current when the first change was made."""
    change = DraftChange.objects.filter(graph=graph).order_by("revision").first()
    version = graph.versions.filter(number=change.version).first() if change else graph.current
    return dict(version.definition) if version else dict(editing.EMPTY)


Change = Callable[[dict[str, Any]], editing.Edit]


@transaction.atomic
def apply(graph: Graph, base: int, edit: Change, caller: Caller, choose: str = "") -> tuple[Draft, editing.Edit]:
    """Change the draft as it was at revision `base`, and merge that with what came since.

    Raises Conflicting where that can't be, unless `choose` says whose change counts: mine or theirs.
    """
    caller.require("start", graph.namespace_id)
    graph = publishing.locked(graph)
    now = draft_of(graph)
    was = now.definition if base == now.revision else at_revision(graph, base)
    made = edit(was)
    checked(made.definition)
    if base == now.revision:
        return _add(graph, now, made, caller), made
    merged, conflicts = merging.merge(was, made.definition, now.definition, prefer_mine=choose == "mine")
    if conflicts and choose not in ("mine", "theirs"):
        raise Conflicting(now, conflicts, merged)
    return _add(graph, now, editing.Edit(merged, f"{made.said} (merged)", made.node), caller), made


def checked(definition: Any) -> dict[str, Any]:
    """The definition, if it can be drawn. Raises Malformed listing why not."""
    publishing.storable(definition)
    found = validation.shape_problems(definition)
    if found:
        said = publishing.summary(found[:5])
        raise errors.Malformed(f"This is no graph: {said}", errors=[problem.as_json() for problem in found])
    return dict(definition)


@transaction.atomic
def replace(graph: Graph, base: int, edit: editing.Edit, caller: Caller) -> Draft:
    """Put another definition in place of the draft at revision `base`. Raises PreconditionFailed when somebody was faster."""
    caller.require("start", graph.namespace_id)
    graph = publishing.locked(graph)
    now = draft_of(graph)
    if now.revision != base:
        raise errors.PreconditionFailed(f"The draft is at revision {now.revision} now; revision {base} was looked at.")
    checked(edit.definition)
    return _add(graph, now, edit, caller)


def _add(graph: Graph, now: Draft, made: editing.Edit, caller: Caller, back_to: int | None = None, redo: bool = False) -> Draft:
    if made.definition == now.definition:
        return now
    change = DraftChange.objects.create(
        graph=graph, revision=now.revision + 1, definition=made.definition, said=made.said[:300], back_to=back_to, redo=redo,
        version=graph.current.number if graph.current else 0, made_by=caller.label[:200],
    )  # fmt: skip
    DraftChange.objects.filter(graph=graph, revision__lte=change.revision - KEPT).delete()
    return Draft(change.revision, change.definition, change)


@dataclass(frozen=True)
class Steps:
    """What an undo and a redo would bring back: (revision, what was done), or None."""

    undo: tuple[int, str] | None
    redo: tuple[int, str] | None


def steps(changes: Iterable[tuple[int, str, int | None, bool]]) -> Steps:
    """From (revision, said, back_to, redo) of all changes, oldest first: a change forgets what was undone, as everywhere. Pure."""
    done: list[tuple[int, str]] = []
    undone: list[tuple[int, str]] = []
    first = None
    for revision, said, back_to, redo in changes:
        first = revision if first is None else first
        if back_to is None:
            undone = []
            if revision == 1 or revision > first:  # else what was before it is no longer kept
                done.append((revision, said))
        elif redo and undone:
            done.append(undone.pop())
        elif not redo and done:
            undone.append(done.pop())
    return Steps((done[-1][0] - 1, done[-1][1]) if done else None, undone[-1] if undone else None)


def steps_of(graph: Graph) -> Steps:
    return steps(DraftChange.objects.filter(graph=graph).order_by("revision").values_list("revision", "said", "back_to", "redo"))


@transaction.atomic
def step(graph: Graph, caller: Caller, redo: bool = False) -> Draft:
    """Undo the last change of the draft, whoever made it, or redo what was undone last. Raises Conflict when there is nothing."""
    caller.require("start", graph.namespace_id)
    graph = publishing.locked(graph)
    found = steps_of(graph)
    back = found.redo if redo else found.undo
    if back is None:
        raise errors.Conflict("There is nothing to redo." if redo else "There is nothing to undo.")
    made = editing.Edit(at_revision(graph, back[0]), f"{'Redo' if redo else 'Undo'}: {back[1]}")
    return _add(graph, draft_of(graph), made, caller, back_to=back[0], redo=redo)


def differs(graph: Graph, draft: Draft) -> bool:
    """Whether publishing the draft would make a new version."""
    kinds = publishing.Kinds(graph.namespace.name, draft.definition)
    return graph.current is None or publishing.checksum_of(kinds.resolved(draft.definition)) != graph.current.checksum


@transaction.atomic
def begin(namespace: Namespace, name: str, caller: Caller, definition: dict[str, Any] | None = None, said: str = "Begin") -> Graph:
    """A new graph that has only a draft. Raises Conflict for a taken name."""
    caller.require("start", namespace.pk)
    graph, made = Graph.objects.get_or_create(namespace=namespace, name=names.checked("graph", name))
    if not made:
        raise errors.Conflict(f"The namespace {namespace} has a graph {name!r} already.")
    if definition:
        apply(graph, 0, lambda _: editing.Edit(dict(definition), said), caller)
    return graph


@transaction.atomic
def publish(graph: Graph, revision: int, caller: Caller, note: str = "") -> Graph:
    """Make the draft, as it was looked at, a version. Raises Conflict when it was changed since, InvalidGraph with its problems."""
    graph = publishing.locked(graph)
    now = draft_of(graph)
    if now.revision != revision:
        raise errors.Conflict(f"{now.change.made_by if now.change else 'Somebody'} changed the draft meanwhile. Look at it again, then publish.")
    return publishing.publish(graph.namespace, graph.name, now.definition, caller, note)
