"""The draft of a graph: read, changed, undone, published. One writer at a time; who comes second is merged, or told."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from graphs import editing, errors, merging, names, publishing, validation
from graphs.access import Caller
from graphs.draft_models import DraftChange
from graphs.models import Graph, Namespace

KEPT = 100  # changes of a draft that can be undone, merged with and looked up
_TOKEN = re.compile(r"(\d{1,9})-(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Base:
    """What a change is a change of: the draft at a revision, while a version was current. As text it is `version-revision`."""

    version: int
    revision: int

    @classmethod
    def of(cls, text: str) -> "Base":
        """Raises Malformed."""
        found = _TOKEN.fullmatch(text)
        if found is None:
            raise errors.Malformed("The form doesn't say what it is a change of. Open the page again.")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.version}-{self.revision}"


@dataclass(frozen=True)
class Draft:
    """A graph as somebody draws it. Revision 0, or one that was published, is the current version itself, which nobody has changed since."""

    base: Base
    definition: dict[str, Any]
    change: DraftChange | None = None

    @property
    def revision(self) -> int:
        return self.base.revision


class Conflicting(errors.Conflict):
    """Somebody else changed the same pieces meanwhile."""

    status = 412

    def __init__(self, theirs: Draft, conflicts: list[merging.Conflict]) -> None:
        who = theirs.change.made_by if theirs.change else "somebody"
        places = [conflict.where for conflict in conflicts]
        super().__init__(f"{who} changed the same meanwhile: {', '.join(places[:5])}.", revision=theirs.revision, conflicts=places)
        self.theirs, self.conflicts = theirs, conflicts


def draft_of(graph: Graph) -> Draft:
    number = graph.current.number if graph.current else 0
    newest = DraftChange.objects.filter(graph=graph).order_by("-revision").first()
    if newest is None:
        return Draft(Base(number, 0), _version(graph, number))
    follows = newest.published is not None and newest.published != number
    return Draft(Base(number, newest.revision), _version(graph, number) if follows else newest.definition, newest)


def _version(graph: Graph, number: int) -> dict[str, Any]:
    if graph.current and graph.current.number == number:
        return dict(graph.current.definition)
    found = graph.versions.filter(number=number).values_list("definition", flat=True).first()
    return dict(found) if found else dict(editing.EMPTY)


def at(graph: Graph, base: Base) -> dict[str, Any]:
    """The definition that somebody looked at. Raises Conflict when it is too old to be known."""
    found = DraftChange.objects.filter(graph=graph, revision=base.revision).first()
    if found is not None and (found.published is None or found.published == base.version):
        return dict(found.definition)
    if found is None and base.revision:
        raise errors.Conflict("The draft was changed very often since this page was opened. Open it again.")
    return _version(graph, base.version)


Change = Callable[[dict[str, Any]], editing.Edit]


@transaction.atomic
def apply(graph: Graph, base: Base, edit: Change, caller: Caller, choose: str = "", seen: int | None = None) -> tuple[Draft, editing.Edit]:
    """Change the draft as it was at `base`, and put that together with what came since.

    Raises Conflicting where that can't be, unless `choose` says whose change counts, mine or theirs, of the revision that was `seen`.
    """
    caller.require("start", graph.namespace_id)
    graph = publishing.locked(graph)
    now = draft_of(graph)
    was = now.definition if base == now.base else at(graph, base)
    made = edit(was)
    if base != now.base:
        made = _together(made, was, now, edit, choose if seen == now.revision else "")
    checked(made.definition)
    return _add(graph, now, made, caller), made


def _together(made: editing.Edit, was: dict[str, Any], now: Draft, edit: Change, choose: str) -> editing.Edit:
    """What only adds is done to the newest draft; anything else is merged piece by piece, a renamed node with what others did to it."""
    if made.adds:
        return edit(now.definition)
    theirs = now.definition
    if made.renamed and editing.can_rename(theirs, *made.renamed):
        was, theirs = editing.rename(was, *made.renamed), editing.rename(theirs, *made.renamed)
    merged, conflicts = merging.merge(was, made.definition, theirs, prefer_mine=choose == "mine")
    if conflicts and choose not in ("mine", "theirs"):
        raise Conflicting(now, conflicts)
    return editing.Edit(merged, f"{made.said} (merged)", made.node)


def checked(definition: Any) -> dict[str, Any]:
    """The definition, if it can be drawn. Raises Malformed listing why not."""
    publishing.storable(definition)
    found = validation.shape_problems(definition)
    if found:
        said = publishing.summary(found[:5])
        raise errors.Malformed(f"This is no graph: {said}", errors=[problem.as_json() for problem in found])
    return dict(definition)


@transaction.atomic
def replace(graph: Graph, base: Base, edit: editing.Edit, caller: Caller) -> Draft:
    """Put another definition in place of the draft at `base`. Raises PreconditionFailed when somebody was faster."""
    caller.require("start", graph.namespace_id)
    graph = publishing.locked(graph)
    now = draft_of(graph)
    if now.base != base:
        raise errors.PreconditionFailed(f"The draft is at {now.base} now; {base} was looked at.")
    checked(edit.definition)
    return _add(graph, now, edit, caller)


def _add(graph: Graph, now: Draft, made: editing.Edit, caller: Caller, back_to: int | None = None, redo: bool = False) -> Draft:
    if merging.same(made.definition, now.definition):
        return now
    change = DraftChange.objects.create(
        graph=graph, revision=now.revision + 1, definition=made.definition, said=made.said[:300], back_to=back_to, redo=redo,
        version=now.base.version, made_by=caller.label[:200],
    )  # fmt: skip
    DraftChange.objects.filter(graph=graph, revision__lte=change.revision - KEPT).delete()
    return Draft(Base(now.base.version, change.revision), change.definition, change)


@dataclass(frozen=True)
class Steps:
    """What an undo and a redo would bring back: (revision, what was done), or None."""

    undo: tuple[int, str] | None
    redo: tuple[int, str] | None


def steps(changes: Iterable[tuple[int, str, int | None, bool]]) -> Steps:
    """From (revision, said, back_to, redo) of the changes that are kept, oldest first: a change forgets what was undone, as everywhere. Pure."""
    done: dict[int, str] = {}  # the revisions whose change holds, and what it was
    undone: dict[int, str] = {}
    known = {0}
    for revision, said, back_to, redo in changes:
        known.add(revision)
        if back_to is None:
            done[revision], undone = said, {}
        elif redo:
            done[back_to] = undone.pop(back_to, said)
        else:
            undone[back_to + 1] = done.pop(back_to + 1, said)
    last, next_ = next(reversed(done), None), next(reversed(undone), None)
    back = (last - 1, done[last]) if last is not None and last - 1 in known else None
    return Steps(back, (next_, undone[next_]) if next_ is not None and next_ in known else None)


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
    row = DraftChange.objects.filter(graph=graph, revision=back[0]).first()
    first = DraftChange.objects.filter(graph=graph).order_by("revision").first()
    definition = row.definition if row else _version(graph, first.version if first else 0)
    made = editing.Edit(dict(definition), f"{'Redo' if redo else 'Undo'}: {back[1]}")
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
        apply(graph, Base(0, 0), lambda _: editing.Edit(dict(definition), said), caller)
    return graph


@transaction.atomic
def publish(graph: Graph, base: Base, caller: Caller, note: str = "") -> Graph:
    """Make the draft, as it was looked at, a version. Raises Conflict when it was changed since, InvalidGraph with its problems."""
    graph = publishing.locked(graph)
    now = draft_of(graph)
    if now.base != base:
        who = now.change.made_by if now.change and now.revision != base.revision else "Somebody"
        raise errors.Conflict(f"{who} changed the draft meanwhile, or published a version. Look at it again, then publish.")
    published = publishing.publish(graph.namespace, graph.name, now.definition, caller, note)
    assert published.current is not None
    DraftChange.objects.filter(graph=graph, revision=now.revision).update(published=published.current.number)
    return published
