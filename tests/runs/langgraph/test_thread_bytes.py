"""Checkpoints count among the bytes that their thread stores, and are refused beyond the limit."""

import pytest

pytest.importorskip("langgraph.checkpoint.base")

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.models import Namespace
from graphs.web import ttl_cache
from runs.langgraph import edits, prune, thread_bytes, threads
from runs.models import Checkpoint, CheckpointBlob, CheckpointWrite, Run
from tests.support.checkpoints import put

pytestmark = pytest.mark.django_db(transaction=True)
KILOBYTE = "é" * 500
MODELS = (Checkpoint, CheckpointBlob, CheckpointWrite)


def thread(name="t"):
    return Run.objects.get(run_id=name)


def in_rows(run):
    """What the rows hold; on PostgreSQL with a space after each comma and colon of metadata."""
    return pytest.approx(thread_bytes.of_thread(run.pk), abs=200)


def counts():
    return [model.objects.count() for model in MODELS]


def write(saver, config, value, task="task", channel="values"):
    saver.put_writes(config, [(channel, value)], task)


def test_checkpoints_values_and_writes_are_counted(saver):
    first = put(saver, values={"a": KILOBYTE}, parents={"x": KILOBYTE})
    assert thread().stored_bytes == in_rows(thread())
    assert thread().stored_bytes > 2000
    write(saver, first, KILOBYTE)
    write(saver, first, KILOBYTE, channel="__error__")
    assert thread().stored_bytes == in_rows(thread())
    assert thread().stored_bytes > 4000
    put(saver, values={"a": KILOBYTE}, parent=first["configurable"]["checkpoint_id"])
    assert thread().stored_bytes == in_rows(thread())
    assert thread().stored_bytes > 5000


def test_what_is_stored_again_is_counted_once(saver):
    config = put(saver, values={"a": KILOBYTE})
    before = thread().stored_bytes
    stored = saver.get_tuple(config)
    versions = stored.checkpoint["channel_versions"]
    saver.put({"configurable": {"thread_id": "t"}}, stored.checkpoint, stored.metadata, versions)
    assert thread().stored_bytes == pytest.approx(before, abs=5)
    for _ in range(2):
        write(saver, config, KILOBYTE)
        write(saver, config, KILOBYTE * 2, channel="__error__")
    assert thread().stored_bytes == in_rows(thread())
    write(saver, config, "", channel="__error__")
    assert thread().stored_bytes == in_rows(thread())


def test_a_checkpoint_beyond_the_limit_is_refused_and_changes_nothing(saver, conf):
    config = put(saver, values={"a": KILOBYTE})
    conf.MAX_RUN_BYTES = thread().stored_bytes + 2000
    before = counts(), thread().revision
    with pytest.raises(errors.TooLarge, match="raise MAX_RUN_BYTES"):
        put(saver, values={"a": KILOBYTE * 3})
    with pytest.raises(errors.TooLarge, match="raise MAX_RUN_BYTES"):
        write(saver, config, KILOBYTE * 3)
    with pytest.raises(errors.TooLarge, match="raise MAX_RUN_BYTES"):
        put(saver, note=KILOBYTE * 3)
    assert (counts(), thread().revision) == before
    put(saver, values={"a": "small"})


def test_pruned_checkpoints_no_longer_count(saver):
    for _ in range(3):
        put(saver, values={"a": KILOBYTE})
    full = thread().stored_bytes
    prune.prune(Namespace.objects.get(name="alpha"), ["t"], keep_latest=True)
    assert thread().stored_bytes == in_rows(thread())
    assert thread().stored_bytes < full / 2


def test_copies_and_forks_are_counted_and_limited(saver, conf):
    put(saver, values={"a": KILOBYTE})
    last = put(saver, values={"a": KILOBYTE})["configurable"]["checkpoint_id"]
    namespace = Namespace.objects.get(name="alpha")
    threads.copy_thread(namespace, "t", "copy")
    threads.copy_thread(namespace, "t", "copy")
    assert thread("copy").stored_bytes == in_rows(thread("copy"))
    assert thread("copy").stored_bytes == pytest.approx(thread().stored_bytes, abs=200)
    checkpoint = Checkpoint.objects.get(run=thread(), checkpoint_id=last)
    forked = edits.fork(thread(), checkpoint, SYSTEM)
    assert forked.stored_bytes == in_rows(forked)

    conf.MAX_RUN_BYTES = 2000
    before = counts()
    with pytest.raises(errors.TooLarge, match="raise MAX_RUN_BYTES"):
        threads.copy_thread(namespace, "t", "another")
    with pytest.raises(errors.TooLarge, match="raise MAX_RUN_BYTES"):
        edits.fork(thread(), checkpoint, SYSTEM)
    assert counts() == before
    assert not Run.objects.filter(run_id="another").exists()


def test_a_namespace_that_stores_all_it_may_starts_no_thread(saver):
    config = put(saver, values={"a": KILOBYTE})
    Namespace.objects.filter(name="alpha").update(max_stored_bytes=1000)
    ttl_cache.forget()
    fresh = type(saver)("alpha")
    with pytest.raises(errors.TooLarge, match="Delete old runs"):
        put(fresh, thread="new")
    checkpoint = Checkpoint.objects.get(checkpoint_id=config["configurable"]["checkpoint_id"])
    with pytest.raises(errors.TooLarge, match="Delete old runs"):
        edits.fork(thread(), checkpoint, SYSTEM)
    assert Run.objects.get() == thread()
    put(fresh, values={"a": "a thread that has started goes on"})
