"""Merging a change of a draft with the changes that others saved in the meantime. Pure."""

from collections.abc import Sequence

from graphs.definition import merge
from graphs.definition.edits import Edit
from graphs.definition.merge import Conflict
from graphs.definition.types import Definition

Renames = Sequence[tuple[str, str]]  # pairs of an old and a new node id


def combine(
    mine: Edit, base: Definition, theirs: Definition, their_renames: Renames, choice: str = ""
) -> tuple[Edit, list[Conflict]]:
    """Combine two changes of the definition `base`: my edit, and the definition of the others.

    A node that one side renamed takes the changes of the other side along to its new name.

    Returns the merged change and the conflicts that remain. A `choice` of "mine" or "theirs"
    settles all conflicts; with any other choice, the merged change counts only without conflicts.
    """
    sides = merge.Sides(base, mine.definition, theirs)
    rename_conflicts = _follow_renames(sides, mine, their_renames, choice)
    if rename_conflicts and choice == "theirs":
        return Edit(theirs, mine.message, mine.node), []

    merged, conflicts = merge.merge(
        sides.base, sides.mine, sides.theirs, prefer_mine=choice == "mine"
    )
    edit = Edit(
        merged,
        f"{mine.message} (merged)",
        _current_node(mine.node, their_renames, merge.ids(merged)),
        renamed=_current_rename(mine.renamed, their_renames),
    )
    if choice in ("mine", "theirs"):
        return edit, []
    return edit, [*rename_conflicts, *conflicts]


def _follow_renames(
    sides: merge.Sides, mine: Edit, their_renames: Renames, choice: str
) -> list[Conflict]:
    """Give each node one name on all sides. Return the conflicts where that is impossible."""
    conflicts = [
        sides.follow_theirs(old, new, take_mine=choice == "mine") for old, new in their_renames
    ]
    if mine.renamed:
        conflict = sides.follow_mine(*mine.renamed)
        if choice != "mine":
            conflicts.append(conflict)
    return [conflict for conflict in conflicts if conflict]


def _current_node(node: str, renames: Renames, ids: set[str]) -> str:
    """The node to show next, under the name that it has now."""
    return next((new for old, new in renames if old == node and new in ids), node)


def _current_rename(renamed: tuple[str, str] | None, renames: Renames) -> tuple[str, str] | None:
    """My rename as one of the node's current name."""
    if renamed is None:
        return None
    old, new = renamed
    return dict(renames).get(old, old), new
