"""The draft of a graph: reading it, changing it, and publishing it.

Each change is a row, and the newest row is the draft. A change names the *base* that it is a change
of. If others changed the draft since, both changes are merged; where both changed the same piece,
the author of the second change is asked. Undo and redo are in `graphs.services.undo`.
"""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction

from graphs.auth import acts
from graphs.auth.callers import Caller
from graphs.definition import edits, errors, merge, names, validation
from graphs.definition.edits import Edit
from graphs.definition.types import Definition, Json
from graphs.models import Graph, Namespace
from graphs.models.draft import DraftChange
from graphs.services.draft_merge import combine
from graphs.services.kinds import Kinds
from graphs.services.publish import (
    checksum_of,
    lock_graph,
    publish_graph,
    require_storable,
    summary,
)

KEPT = 100  # changes of a draft that are kept for undo and for merging
_BASE = re.compile(r"(\d{1,9})-(\d{1,9})", re.ASCII)

Change = Callable[[Definition], Edit]


@dataclass(frozen=True)
class Base:
    """What a change is a change of: a revision of the draft, and the version current at that time.

    As text it is `version-revision`, such as `3-17`. Version 0 means that there was none.
    """

    version: int
    revision: int

    @classmethod
    def of(cls, text: str) -> "Base":
        """Parse a base. Raises Malformed."""
        match = _BASE.fullmatch(text)
        if match is None:
            raise errors.Malformed(
                "The form doesn't contain the revision that it changes. Open the page again."
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.version}-{self.revision}"


@dataclass(frozen=True)
class Draft:
    """The draft of a graph. `change` is the change that made it.

    While nobody has changed the draft since a version was published, the draft is that version.
    """

    base: Base
    definition: Definition
    change: DraftChange | None = None

    @property
    def revision(self) -> int:
        return self.base.revision


@dataclass(frozen=True)
class Applied:
    """The draft after a change, and the change as it was applied.

    `alone` says that nobody else changed the draft since the base of the change.
    """

    draft: Draft
    edit: Edit
    alone: bool


class Conflicting(errors.Conflict):
    """Somebody else changed the same pieces of the draft."""

    status = 412

    def __init__(self, theirs: Draft, conflicts: list[merge.Conflict]) -> None:
        author = theirs.change.made_by if theirs.change else "Somebody"
        places = [conflict.where for conflict in conflicts]
        super().__init__(
            f"{author} has changed the same places since: {', '.join(places[:5])}.",
            revision=theirs.revision,
            conflicts=places,
        )
        self.theirs = theirs
        self.conflicts = conflicts


class Outdated(errors.Conflict):
    """The base of a change is older than the changes that are kept."""

    def __init__(self) -> None:
        super().__init__(
            "The draft was changed very often since this page was opened. Open it again."
        )


def draft_of(graph: Graph) -> Draft:
    """The draft as it is now."""
    number = graph.current.number if graph.current else 0
    newest = DraftChange.objects.filter(graph=graph).order_by("-revision").first()
    if newest is None:
        return Draft(Base(number, 0), version_of(graph, number))

    draft = Draft(Base(number, newest.revision), newest.definition, newest)
    if follows(draft):
        return dataclasses.replace(draft, definition=version_of(graph, number))
    return draft


def version_of(graph: Graph, number: int) -> Definition:
    """The definition of a version, or an empty definition if there is no version of this number."""
    if graph.current and graph.current.number == number:
        return graph.current.definition.copy()
    definition: Definition | None = (
        graph.versions.filter(number=number).values_list("definition", flat=True).first()
    )
    return (definition or edits.EMPTY).copy()


def at(graph: Graph, base: Base) -> Definition:
    """The definition of the draft at a base. Raises Outdated if it is no longer kept."""
    change = DraftChange.objects.filter(graph=graph, revision=base.revision).first()
    if change is None:
        if base.revision:
            raise Outdated
        return version_of(graph, base.version)

    if change.published is None or change.published == base.version:
        return change.definition.copy()
    return version_of(graph, base.version)


@transaction.atomic
def apply(
    graph: Graph,
    base: Base,
    edit: Change,
    caller: Caller,
    choose: str = "",
    seen: int | None = None,
) -> Applied:
    """Apply an edit to the draft at `base`, and merge the result with the changes made since.

    `choose` settles conflicts with "mine" or "theirs". It counts only if the draft is still at the
    revision `seen`, the one that the person saw when choosing.

    Raises Conflicting for conflicts that are not settled, Outdated if the base is no longer kept,
    and Malformed if the result can't be drawn.
    """
    caller.require("start", graph.namespace_id)
    graph = lock_graph(graph)
    now = draft_of(graph)
    alone = base == now.base
    was = now.definition if alone else at(graph, base)
    change = edit(was)
    if not alone and change.adds:
        change = edit(now.definition)
    elif not alone:
        choice = choose if seen == now.revision else ""
        change, conflicts = combine(
            change, was, now.definition, _renames_since(graph, base, now), choice
        )
        if conflicts:
            raise Conflicting(now, conflicts)

    checked(change.definition)
    return Applied(record(graph, now, change, caller), change, alone)


def _renames_since(graph: Graph, base: Base, now: Draft) -> list[tuple[str, str]]:
    """The nodes that were renamed since `base`, as pairs of the id then and the id now.

    Chains are followed: a node renamed from a to b and from b to c was renamed from a to c.
    """
    changes = DraftChange.objects.filter(graph=graph, revision__gt=base.revision)
    renames = changes.exclude(renamed=None).order_by("revision").values_list("renamed", flat=True)
    current_ids: dict[str, str] = {}
    for rename in renames:
        old, new = rename or ("", "")
        first = next((first for first, last in current_ids.items() if last == old), old)
        current_ids[first] = new

    ids = merge.ids(now.definition)
    return [
        (first, last) for first, last in current_ids.items() if last in ids and first not in ids
    ]


def checked(definition: Json) -> Definition:
    """The definition, if it can be drawn. Raises Malformed with the reasons why it can't."""
    require_storable(definition)
    problems = validation.shape_problems(definition)
    if problems:
        raise errors.Malformed(
            f"This is not a graph: {summary(problems[:5])}",
            errors=[problem.as_json() for problem in problems],
        )
    return definition


@transaction.atomic
def replace(graph: Graph, base: Base, edit: Edit, caller: Caller) -> Draft:
    """Replace the whole draft, without merging.

    Raises PreconditionFailed if the draft is no longer at `base`, and Malformed if the definition
    can't be drawn.
    """
    caller.require("start", graph.namespace_id)
    graph = lock_graph(graph)
    now = draft_of(graph)
    if now.base != base:
        raise errors.PreconditionFailed(
            f"The draft is at {now.base} now, and this is a change of {base}. Read it again."
        )
    checked(edit.definition)
    return record(graph, now, edit, caller)


def record(
    graph: Graph,
    now: Draft,
    edit: Edit,
    caller: Caller,
    back_to: int | None = None,
    redo: bool = False,
) -> Draft:
    """Store a change of a locked graph's draft, and forget the oldest change if there are too many.

    `back_to` is the revision that an undo or a redo restores. An edit that changes nothing is not
    stored.
    """
    if merge.same(edit.definition, now.definition):
        return now

    now = caught_up(graph, now)
    change = DraftChange.objects.create(
        graph=graph,
        revision=now.revision + 1,
        definition=edit.definition,
        message=edit.message[:300],
        back_to=back_to,
        redo=redo,
        version=now.base.version,
        made_by=caller.label[:200],
        renamed=edit.renamed,
    )
    DraftChange.objects.filter(graph=graph, revision__lte=change.revision - KEPT).delete()
    acts.record(caller, "change_draft", graph.namespace_id, f"{graph} revision {change.revision}")
    return Draft(Base(now.base.version, change.revision), change.definition, change)


def caught_up(graph: Graph, now: Draft) -> Draft:
    """The draft after a version that was published past it has become a change of its own.

    Undo then leads back to the draft as it was before that version.
    """
    if not follows(now):
        return now

    number = now.base.version
    change = DraftChange.objects.create(
        graph=graph,
        revision=now.revision + 1,
        definition=now.definition,
        message=published_as(number),
        version=number,
        published=number,
        made_by=_author(graph),
    )
    return Draft(Base(number, change.revision), now.definition, change)


def follows(draft: Draft) -> bool:
    """Whether the draft was published and a newer version came after it.

    The draft is then that newer version.
    """
    return (
        draft.change is not None
        and draft.change.published is not None
        and draft.change.published != draft.base.version
    )


def published_as(number: int) -> str:
    return f"Version {number} was published"


def _author(graph: Graph) -> str:
    author = graph.current.created_by if graph.current else None
    return author.get_username()[:200] if author else "an API client or a command"


def differs(graph: Graph, draft: Draft) -> bool:
    """Whether publishing the draft would make a new version."""
    if graph.current is None:
        return True
    resolved = Kinds(graph.namespace.name, draft.definition).resolved(draft.definition)
    return checksum_of(resolved) != graph.current.checksum


@transaction.atomic
def begin(
    namespace: Namespace,
    name: str,
    caller: Caller,
    definition: Definition | None = None,
    message: str = "Begin",
) -> Graph:
    """Create a graph that has a draft and no version yet.

    Raises Conflict if the name is taken, and Malformed if the name or the definition is invalid.
    """
    caller.require("start", namespace.pk)
    graph, created = Graph.objects.get_or_create(
        namespace=namespace, name=names.checked("graph", name)
    )
    if not created:
        raise errors.Conflict(
            f"The namespace {namespace} already has a graph {name!r}. Choose another name."
        )
    acts.record(caller, "create_graph", namespace.pk, str(graph))
    if definition:
        edit = Edit(definition.copy(), message)
        apply(graph, Base(0, 0), lambda _: edit, caller)
    return graph


@transaction.atomic
def publish(graph: Graph, base: Base, caller: Caller, note: str = "") -> Graph:
    """Make the draft at `base` the current version.

    Raises Conflict if the draft was changed or a version was published since, and InvalidGraph with
    every problem of the draft.
    """
    graph = lock_graph(graph)
    now = draft_of(graph)
    if now.base != base:
        newest = now.change if now.revision != base.revision else None
        author = newest.made_by if newest else "Somebody"
        raise errors.Conflict(
            f"{author} changed the draft meanwhile, or published a version. "
            "Look at the draft again, then publish it."
        )

    published = publish_graph(graph.namespace, graph.name, now.definition, caller, note)
    assert published.current is not None
    DraftChange.objects.filter(graph=graph, revision=now.revision).update(
        published=published.current.number
    )
    return published
