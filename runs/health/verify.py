"""What must not exist: rows and files without a run, tombstones of existing runs, wrong counters.

If nothing is found, deleting runs has removed everything and the engine's counters are right.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from django.core.files.storage import default_storage
from django.db.models import Exists, Model, OuterRef, QuerySet
from django.utils import timezone

from runs.actions import delete
from runs.engine.node_context import run_folder
from runs.health import recount
from runs.models import Run, Tombstone

MAX_EXAMPLES = 5
SAMPLE_SIZE = 1000
# A rerun copies files before its row is committed, so newer folders may have no run yet.
MIN_FOLDER_AGE = timedelta(minutes=15)

Child = TypeVar("Child", bound=Model)


@dataclass(frozen=True)
class Finding:
    """`count` things of the same kind that must not exist, with some of them as examples."""

    label: str
    count: int
    examples: list[str]


def verify(fix: bool = False) -> Iterator[Finding]:
    """Yield everything that is wrong; with `fix`, repair each finding after it was yielded.

    Call it while no runs are being deleted, because a deletion in progress would be found, too.
    """
    yield from _orphans(fix)
    yield from _folders(fix)
    yield from _tombstones(fix)
    yield from _drift(fix)


def _orphans(fix: bool) -> Iterator[Finding]:
    for model in delete.RUN_CHILDREN:
        orphans = _without_run(model._default_manager.all())
        count = orphans.count()
        if count:
            examples = list(orphans.values_list("pk", flat=True)[:MAX_EXAMPLES])
            yield _orphans_found(model, count, examples)
            if fix:
                orphans._raw_delete(orphans.db)


def sample() -> Iterator[Finding]:
    """Yield rows without a run among the oldest and the newest 1,000 rows of each table.

    The cost doesn't grow with the tables. Old rows may be left by a deletion, new ones by a race.
    """
    for model in delete.RUN_CHILDREN:
        orphans: dict[int | uuid.UUID, None] = {}  # a set that keeps the order
        for order in ("pk", "-pk"):
            sampled = _sampled(model, order)
            orphans |= dict.fromkeys(_without_run(sampled).values_list("pk", flat=True))
        if orphans:
            yield _orphans_found(model, len(orphans), list(orphans)[:MAX_EXAMPLES])


def _sampled(model: type[Child], order: str) -> QuerySet[Child]:
    rows = model._default_manager.all()
    return rows.filter(pk__in=rows.order_by(order).values("pk")[:SAMPLE_SIZE]).order_by("pk")


def _without_run(rows: QuerySet[Child]) -> QuerySet[Child]:
    return rows.filter(~Exists(Run.objects.filter(pk=OuterRef("run_id"))))


def _orphans_found(model: type[Model], count: int, pks: list[int | uuid.UUID]) -> Finding:
    label = f"{model._meta.verbose_name_plural} without a run"
    return Finding(label, count, [str(pk) for pk in pks])


def _folders(fix: bool) -> Iterator[Finding]:
    orphans = [
        pk
        for pk in _run_folders()
        if not Run.objects.filter(pk=pk).exists() and _is_old(run_folder(pk))
    ]
    if orphans:
        examples = [run_folder(pk) for pk in orphans[:MAX_EXAMPLES]]
        yield Finding("folders without a run", len(orphans), examples)
        if fix:
            delete.remove_files(orphans)


def _is_old(folder: str) -> bool:
    try:
        return timezone.now() - default_storage.get_modified_time(folder) > MIN_FOLDER_AGE
    except FileNotFoundError:
        return False


def _run_folders() -> Iterator[int]:
    """Yield the primary keys for which the storage has a folder."""
    try:
        thousands, _ = default_storage.listdir("runs")
    except FileNotFoundError:
        return
    for thousand in thousands:
        for name in default_storage.listdir(f"runs/{thousand}")[0]:
            if name.isdigit():
                yield int(name)


def _tombstones(fix: bool) -> Iterator[Finding]:
    same_id = Run.objects.filter(namespace=OuterRef("namespace"), run_id=OuterRef("run_id"))
    tombstones = Tombstone.objects.filter(Exists(same_id))
    count = tombstones.count()
    if count:
        examples = list(tombstones.values_list("run_id", flat=True)[:MAX_EXAMPLES])
        yield Finding("tombstones of existing runs", count, examples)
        if fix:
            tombstones.delete()


def _drift(fix: bool) -> Iterator[Finding]:
    """Runs whose counters or status don't match their states."""
    drifted = list(recount.drifted())
    if drifted:
        examples = Run.objects.filter(pk__in=drifted[:MAX_EXAMPLES]).order_by("pk")
        run_ids = list(examples.values_list("run_id", flat=True))
        yield Finding("runs whose counters don't match their states", len(drifted), run_ids)
        if fix:
            for pk in drifted:
                recount.recount(pk)
