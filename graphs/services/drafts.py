"""The draft of a graph: read, changed, published. One writer at a time; who comes second is merged, or told. `graphs.services.undo` goes back."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as replaced

from django.db import transaction

from graphs.auth.callers import Caller
from graphs.definition import edits, errors, merge, names, validation
from graphs.definition.types import Definition, Json
from graphs.models import Graph, Namespace
from graphs.models.draft import DraftChange
from graphs.services import publish as publish_module

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
            raise errors.Malformed(
                "The form doesn't say what it is a change of. Open the page again."
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.version}-{self.revision}"


@dataclass(frozen=True)
class Draft:
    """A graph as somebody draws it. Revision 0, or one that was published, is the current version itself, which nobody has changed since."""

    base: Base
    definition: Definition
    change: DraftChange | None = None

    @property
    def revision(self) -> int:
        return self.base.revision


class Conflicting(errors.Conflict):
    """Somebody else changed the same pieces meanwhile."""

    status = 412

    def __init__(self, theirs: Draft, conflicts: list[merge.Conflict]) -> None:
        who = theirs.change.made_by if theirs.change else "somebody"
        places = [conflict.where for conflict in conflicts]
        super().__init__(
            f"{who} changed the same meanwhile: {', '.join(places[:5])}.",
            revision=theirs.revision,
            conflicts=places,
        )
        self.theirs, self.conflicts = theirs, conflicts


def draft_of(graph: Graph) -> Draft:
    number = graph.current.number if graph.current else 0
    newest = DraftChange.objects.filter(graph=graph).order_by("-revision").first()
    if newest is None:
        return Draft(Base(number, 0), version_of(graph, number))
    found = Draft(Base(number, newest.revision), newest.definition, newest)
    return replaced(found, definition=version_of(graph, number)) if follows(found) else found


def version_of(graph: Graph, number: int) -> Definition:
    if graph.current and graph.current.number == number:
        found: Definition | None = graph.current.definition
    else:
        found = graph.versions.filter(number=number).values_list("definition", flat=True).first()
    return (found or edits.EMPTY).copy()


class Outdated(errors.Conflict):
    """The draft was changed so often since somebody looked at it that what was looked at is not known any more."""

    def __init__(self) -> None:
        super().__init__(
            "The draft was changed very often since this page was opened. Open it again."
        )


@dataclass(frozen=True)
class Applied:
    """The draft after a change, and the change. `alone`: nobody else changed the draft since the base."""

    draft: Draft
    edit: edits.Edit
    alone: bool


def at(graph: Graph, base: Base) -> Definition:
    """The definition that somebody looked at. Raises Outdated when it is too old to be known."""
    found = DraftChange.objects.filter(graph=graph, revision=base.revision).first()
    if found is not None and (found.published is None or found.published == base.version):
        return found.definition
    if found is None and base.revision:
        raise Outdated
    return version_of(graph, base.version)


Change = Callable[[Definition], edits.Edit]


@transaction.atomic
def apply(
    graph: Graph,
    base: Base,
    edit: Change,
    caller: Caller,
    choose: str = "",
    seen: int | None = None,
) -> Applied:
    """Change the draft as it was at `base`, and put that together with what came since.

    Raises Conflicting where that can't be, unless `choose` says whose change counts, mine or theirs, of the revision that was `seen`.
    """
    caller.require("start", graph.namespace_id)
    graph = publish_module.locked(graph)
    now = draft_of(graph)
    alone = base == now.base
    was = now.definition if alone else at(graph, base)
    made = edit(was)
    if not alone:
        made = (
            edit(now.definition)
            if made.adds
            else _together(graph, made, was, now, base, choose if seen == now.revision else "")
        )
    checked(made.definition)
    return Applied(record(graph, now, made, caller), made, alone)


def _together(
    graph: Graph, made: edits.Edit, was: Definition, now: Draft, base: Base, choose: str
) -> edits.Edit:
    """Mine and theirs, piece by piece; what one of them did to a node goes with the name that the other one gave it."""
    theirs = _renamed(graph, now, base)
    sides = merge.Sides(was, made.definition, now.definition)
    fought = [
        conflict
        for old, new in theirs
        if (conflict := sides.follow_theirs(old, new, take_mine=choose == "mine"))
    ]
    if made.renamed and (conflict := sides.follow_mine(*made.renamed)) and choose != "mine":
        fought.append(conflict)
    if fought and choose == "theirs":
        return edits.Edit(now.definition, made.message, made.node)
    merged, conflicts = merge.merge(
        sides.base, sides.mine, sides.theirs, prefer_mine=choose == "mine"
    )
    if (fought or conflicts) and choose not in ("mine", "theirs"):
        raise Conflicting(now, [*fought, *conflicts])
    node = next(
        (new for old, new in theirs if old == made.node and new in merge.ids(merged)), made.node
    )
    renamed = (
        (dict(theirs).get(made.renamed[0], made.renamed[0]), made.renamed[1])
        if made.renamed
        else None
    )
    return edits.Edit(merged, f"{made.message} (merged)", node, renamed=renamed)


def _renamed(graph: Graph, now: Draft, base: Base) -> list[tuple[str, str]]:
    """The nodes that were renamed since, each with the id that it had then and the one that it has now."""
    since = (
        DraftChange.objects.filter(graph=graph, revision__gt=base.revision)
        .exclude(renamed=None)
        .order_by("revision")
    )
    names: dict[str, str] = {}
    for pair in since.values_list("renamed", flat=True):
        old, new = pair or ("", "")
        names[next((first for first, last in names.items() if last == old), old)] = new
    there = merge.ids(now.definition)
    return [(first, last) for first, last in names.items() if last in there and first not in there]


def checked(definition: Json) -> Definition:
    """The definition, if it can be drawn. Raises Malformed listing why not."""
    publish_module.storable(definition)
    found = validation.shape_problems(definition)
    if found:
        message = publish_module.summary(found[:5])
        raise errors.Malformed(
            f"This is no graph: {message}", errors=[problem.as_json() for problem in found]
        )
    return definition


@transaction.atomic
def replace(graph: Graph, base: Base, edit: edits.Edit, caller: Caller) -> Draft:
    """Put another definition in place of the draft at `base`. Raises PreconditionFailed when somebody was faster."""
    caller.require("start", graph.namespace_id)
    graph = publish_module.locked(graph)
    now = draft_of(graph)
    if now.base != base:
        raise errors.PreconditionFailed(f"The draft is at {now.base} now; {base} was looked at.")
    checked(edit.definition)
    return record(graph, now, edit, caller)


def record(
    graph: Graph,
    now: Draft,
    made: edits.Edit,
    caller: Caller,
    back_to: int | None = None,
    redo: bool = False,
) -> Draft:
    """Store a change of the locked draft; one that changes nothing is none."""
    if merge.same(made.definition, now.definition):
        return now
    now = caught_up(graph, now)
    change = DraftChange.objects.create(
        graph=graph, revision=now.revision + 1, definition=made.definition, message=made.message[:300], back_to=back_to, redo=redo,
        version=now.base.version, made_by=caller.label[:200], renamed=made.renamed,
    )  # fmt: skip
    DraftChange.objects.filter(graph=graph, revision__lte=change.revision - KEPT).delete()
    return Draft(Base(now.base.version, change.revision), change.definition, change)


def caught_up(graph: Graph, now: Draft) -> Draft:
    """A version that was published by another way and that the draft follows becomes a change of its own, so that undo leads back past it."""
    if not follows(now):
        return now
    number = now.base.version
    change = DraftChange.objects.create(
        graph=graph, revision=now.revision + 1, definition=now.definition, message=published_as(number), version=number, published=number,
        made_by=_author(graph),
    )  # fmt: skip
    return Draft(Base(number, change.revision), now.definition, change)


def follows(draft: Draft) -> bool:
    """Whether the draft was published and another version came after it: then the draft is that version."""
    return (
        draft.change is not None
        and draft.change.published is not None
        and draft.change.published != draft.base.version
    )


def published_as(number: int) -> str:
    return f"Version {number} was published"


def _author(graph: Graph) -> str:
    author = graph.current.created_by if graph.current else None
    return author.get_username()[:200] if author else "another way"


def differs(graph: Graph, draft: Draft) -> bool:
    """Whether publishing the draft would make a new version."""
    kinds = publish_module.Kinds(graph.namespace.name, draft.definition)
    return (
        graph.current is None
        or publish_module.checksum_of(kinds.resolved(draft.definition)) != graph.current.checksum
    )


@transaction.atomic
def begin(
    namespace: Namespace,
    name: str,
    caller: Caller,
    definition: Definition | None = None,
    message: str = "Begin",
) -> Graph:
    """A new graph that has only a draft. Raises Conflict for a taken name."""
    caller.require("start", namespace.pk)
    graph, made = Graph.objects.get_or_create(
        namespace=namespace, name=names.checked("graph", name)
    )
    if not made:
        raise errors.Conflict(f"The namespace {namespace} has a graph {name!r} already.")
    if definition:
        apply(graph, Base(0, 0), lambda _: edits.Edit(definition.copy(), message), caller)
    return graph


@transaction.atomic
def publish(graph: Graph, base: Base, caller: Caller, note: str = "") -> Graph:
    """Make the draft, as it was looked at, a version. Raises Conflict when it was changed since, InvalidGraph with its problems."""
    graph = publish_module.locked(graph)
    now = draft_of(graph)
    if now.base != base:
        who = now.change.made_by if now.change and now.revision != base.revision else "Somebody"
        raise errors.Conflict(
            f"{who} changed the draft meanwhile, or published a version. Look at it again, then publish."
        )
    published = publish_module.publish(graph.namespace, graph.name, now.definition, caller, note)
    assert published.current is not None
    DraftChange.objects.filter(graph=graph, revision=now.revision).update(
        published=published.current.number
    )
    return published
