"""What should not be: rows and files that belong to no run, ids that are dead and alive at once, and counts that aren't those of the rows.

Finding nothing proves that deleting removes all, and that the engine's counters are right.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.files.storage import default_storage
from django.db.models import Exists, OuterRef
from django.utils import timezone

from runs.actions import delete
from runs.engine.node_context import run_folder
from runs.health import recount
from runs.models import Run, Tombstone

SOME = 5
GLANCE = 1000
YOUNG = timedelta(minutes=15)


@dataclass(frozen=True)
class Finding:
    """`count` things that are wrong, some of them named."""

    said: str
    count: int
    some: list[str]


def verify(fix: bool = False) -> Iterator[Finding]:
    """Everything that is wrong; with `fix` it is mended as it is found. Run it while nothing is being deleted: that would be found half done."""
    yield from _orphans(fix)
    yield from _folders(fix)
    yield from _undead(fix)
    yield from _drift(fix)


def _orphans(fix: bool) -> Iterator[Finding]:
    for model in delete.RUN_CHILDREN:
        lost = model.objects.filter(~Exists(Run.objects.filter(pk=OuterRef("run_id"))))
        if count := lost.count():
            yield Finding(
                f"{model._meta.verbose_name_plural} of no run",
                count,
                [str(pk) for pk in lost.values_list("pk", flat=True)[:SOME]],
            )
            if fix:
                lost._raw_delete(lost.db)


def glance() -> Iterator[Finding]:
    """Rows of no run among the oldest and the newest of each table; what it costs doesn't grow with them. (A deletion leaves old ones, a race new ones.)"""
    for model in delete.RUN_CHILDREN:
        lost: set[Any] = set()
        for order in ("pk", "-pk"):
            end: Any = model.objects.order_by(order).values("pk")[:GLANCE]
            lost |= set(
                model.objects.filter(pk__in=end)
                .filter(~Exists(Run.objects.filter(pk=OuterRef("run_id"))))
                .values_list("pk", flat=True)
            )
        if lost:
            yield Finding(
                f"{model._meta.verbose_name_plural} of no run",
                len(lost),
                [str(pk) for pk in sorted(lost)[:SOME]],
            )


def _folders(fix: bool) -> Iterator[Finding]:
    """Folders of runs that are gone. A rerun copies files before its row is committed, so a young folder is nobody's to judge."""
    lost = [
        pk
        for pk in _kept_folders()
        if not Run.objects.filter(pk=pk).exists() and _is_old(run_folder(pk))
    ]
    if lost:
        yield Finding("folders of no run", len(lost), [run_folder(pk) for pk in lost[:SOME]])
        if fix:
            delete.remove_files(lost)


def _is_old(folder: str) -> bool:
    try:
        return timezone.now() - default_storage.get_modified_time(folder) > YOUNG
    except FileNotFoundError:
        return False


def _kept_folders() -> Iterator[int]:
    try:
        thousands, _ = default_storage.listdir("runs")
    except FileNotFoundError:
        return
    for thousand in thousands:
        for name in default_storage.listdir(f"runs/{thousand}")[0]:
            if name.isdigit():
                yield int(name)


def _undead(fix: bool) -> Iterator[Finding]:
    alive = Tombstone.objects.filter(
        Exists(Run.objects.filter(namespace=OuterRef("namespace"), run_id=OuterRef("run_id")))
    )
    if count := alive.count():
        yield Finding(
            "tombstones of runs that are there",
            count,
            list(alive.values_list("run_id", flat=True)[:SOME]),
        )
        if fix:
            alive.delete()


def _drift(fix: bool) -> Iterator[Finding]:
    """Runs whose counts or status are not what their states give."""
    if wrong := list(recount.drifted()):
        named = (
            Run.objects.filter(pk__in=wrong[:SOME]).order_by("pk").values_list("run_id", flat=True)
        )
        yield Finding("runs whose counts aren't those of their states", len(wrong), list(named))
        for pk in wrong if fix else ():
            recount.recount(pk)
