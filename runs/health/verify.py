"""What must not exist: rows and files without a run, rows without files, wrong counters.

If nothing is found, deleting runs has removed everything and the engine's counters are right.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from django.db.models import Exists, Model, OuterRef, QuerySet

from runs.actions import delete
from runs.engine.node_context import run_folder
from runs.health import recount, stored_files
from runs.models import Run, Tombstone
from statemanager.file_storage import file_storage

MAX_EXAMPLES = 5
SAMPLE_SIZE = 1000

Child = TypeVar("Child", bound=Model)


@dataclass(frozen=True)
class Finding:
    """`count` things of the same kind that must not exist, with some of them as examples."""

    label: str
    count: int
    examples: list[str]
    fixable: bool = True


def verify(fix: bool = False, checksums: bool = False) -> Iterator[Finding]:
    """Yield everything that is wrong; with `fix`, repair what can be repaired.

    The sizes of all files are compared with their rows; with `checksums`, their contents, too.

    Call it while no runs are being deleted, because a deletion in progress would be found, too.
    """
    yield from _orphans(fix)
    yield from _folders(fix)
    yield from _files(fix, checksums)
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
    found = stored_files.Found()
    for pk in stored_files.without_run():
        found.add(run_folder(pk))
        if fix:
            delete.remove_files([pk])
    if found.count:
        yield Finding("folders without a run", found.count, found.examples)


def _files(fix: bool, checksums: bool) -> Iterator[Finding]:
    """Files that are missing or damaged, which can't be repaired, and files that no row names."""
    compared = stored_files.compare(checksums)
    kinds = {
        "files that are not in the storage": compared.missing,
        "files whose size is not that of their row": compared.size,
        "files whose content is not that of their row": compared.checksum,
    }
    for label, found in kinds.items():
        if found.count:
            yield Finding(label, found.count, found.examples, fixable=False)

    unnamed = stored_files.Found()
    for file in stored_files.without_row():
        unnamed.add(file)
        if fix:
            file_storage.delete(file)
    if unnamed.count:
        yield Finding("files without a row", unnamed.count, unnamed.examples)


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
