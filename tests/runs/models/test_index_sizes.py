"""An entry of an index of PostgreSQL has at most 2,704 bytes, while columns count characters."""

import random

import pytest
from django.apps import apps
from django.db import models

from graphs.definition import errors
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside
from runs.langgraph.checkpoints import check_lengths
from runs.models import Checkpoint, CheckpointBlob, CheckpointWrite, Run

pytestmark = pytest.mark.django_db
MAX_ENTRY = 2704
OVERHEAD = 24  # the header of an entry, the lengths of its texts, and what aligns its numbers
# Columns whose limit is in bytes, or whose texts are ASCII.
IN_BYTES = {
    "ns": 1500,
    "checkpoint_id": 100,
    "task_id": 200,
    "channel": 500,
    "version": 200,
    "path": 1000,
    "file": 500,
}


def indexes():
    for model in apps.get_models():
        meta = model._meta
        if not meta.app_label.startswith("statemanager_"):
            continue
        for column in meta.local_fields:
            if column.unique or column.db_index:
                yield pytest.param(model, [column.name], id=f"{model.__name__}.{column.name}")
        uniques = [one for one in meta.constraints if isinstance(one, models.UniqueConstraint)]
        for index in (*meta.indexes, *uniques):
            names = [name.lstrip("-") for name in index.fields]
            yield pytest.param(model, names, id=index.name)


def size(column):
    if isinstance(column, models.ForeignKey):
        column = column.target_field
    if column.name in IN_BYTES:
        return IN_BYTES[column.name]
    if isinstance(column, models.UUIDField):
        return 16
    return 4 * column.max_length if isinstance(column, models.CharField) else 8


@pytest.mark.parametrize(("model", "names"), list(indexes()))
def test_the_longest_values_fit_into_every_index(model, names):
    columns = [model._meta.get_field(name) for name in names]
    assert not any(type(column) is models.TextField for column in columns)
    assert sum(map(size, columns)) + OVERHEAD <= MAX_ENTRY


def text(length):
    """A text that can't be compressed, of characters with four bytes."""
    return "".join(chr(random.randrange(0x20000, 0x2A000)) for _ in range(length // 4))


def test_the_longest_names_of_a_checkpoint_are_stored(namespace):
    run = start_outside(namespace, RunOptions(run_id=text(800)))
    ns, checkpoint_id, task, channel, version = map(text, (1500, 100, 200, 500, 200))
    check_lengths(ns, checkpoint_id, task, [channel], [version])
    Checkpoint.objects.create(run=run, ns=ns, checkpoint_id=checkpoint_id, body=b"")
    CheckpointBlob.objects.create(run=run, ns=ns, channel=channel, version=version)
    CheckpointWrite.objects.create(
        run=run, ns=ns, checkpoint_id=checkpoint_id, task_id=task, idx=0, channel=channel
    )
    assert Run.objects.get().run_id == run.run_id


@pytest.mark.parametrize("at", range(5))
def test_longer_names_of_a_checkpoint_are_refused(at):
    lengths = [1500, 100, 200, 500, 200]
    lengths[at] += 4
    ns, checkpoint_id, task, channel, version = map(text, lengths)
    with pytest.raises(errors.Malformed, match="bytes"):
        check_lengths(ns, checkpoint_id, task, [channel], [version])
