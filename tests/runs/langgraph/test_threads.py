"""The saver: the conformance suite, odd values, deletion, pruning, forks and cut connections."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection, connections

pytest.importorskip("langgraph.checkpoint.base")
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate

from graphs.definition import errors
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.external import documents
from runs.langgraph import db_executor, status
from runs.langgraph.saver import DjangoSaver
from runs.models import Checkpoint, CheckpointBlob, CheckpointWrite, Run, Tombstone
from tests.support.checkpoints import place, put, waited
from tests.support.clusters import until

pytestmark = pytest.mark.django_db(transaction=True)
CAPABILITIES = {
    "put",
    "put_writes",
    "get_tuple",
    "list",
    "delete_thread",
    "delete_for_runs",
    "copy_thread",
    "prune",
}


def test_the_conformance_suite():
    """All 81 tests of all eight capabilities."""

    @checkpointer_test(name="DjangoSaver")
    async def new_saver():
        yield DjangoSaver("conformance")

    report = waited(lambda: validate(new_saver))
    failures = [result.failures for result in report.results.values() if result.failures]
    assert not failures, failures
    assert {
        name for name, result in report.results.items() if result.detected and result.passed
    } == CAPABILITIES
    assert sum(result.tests_passed for result in report.results.values()) == 81


def test_text_with_nul_is_restored(saver):
    value = {"text": "a\x00b", "\x00": ["\x00"], "lone": "ok"}
    put(saver, values={"channel": value}, note="x\x00y", nested={"k": "\x00"}, number=float("inf"))
    stored = saver.get_tuple(place("t"))
    assert stored.checkpoint["channel_values"] == {"channel": value}
    assert stored.metadata["note"] == "xy"
    assert stored.metadata["nested"] == {"k": ""}
    assert stored.metadata["number"] == "inf"


def test_the_asynchronous_methods_return_the_same(saver):
    config = put(saver, values={"a": 1, "b": [2]})
    saver.put_writes(config, [("a", 3), ("b", 4)], "task", "path")
    same = waited(lambda: saver.aget_tuple(place("t")))
    assert same == saver.get_tuple(place("t"))
    assert same.pending_writes == [("task", "a", 3), ("task", "b", 4)]

    async def listed():
        return [checkpoint async for checkpoint in saver.alist(place("t"))]

    assert waited(listed) == list(saver.list(place("t")))


def test_writes_are_ordered_and_only_special_ones_are_replaced(saver):
    config = put(saver)
    saver.put_writes(config, [("a", 1)], "task-b", "1")
    saver.put_writes(config, [("a", 2)], "task-a", "2")
    saver.put_writes(config, [("a", 0)], "task-c", "")
    saver.put_writes(config, [("a", "late")], "task-b", "1")
    saver.put_writes(config, [("__interrupt__", "first")], "task-b", "1")
    saver.put_writes(config, [("__interrupt__", "second")], "task-b", "1")
    assert saver.get_tuple(place("t")).pending_writes == [
        ("task-c", "a", 0),
        ("task-b", "__interrupt__", "second"),
        ("task-b", "a", 1),
        ("task-a", "a", 2),
    ]


def test_a_deleted_thread_stays_deleted(saver):
    config = put(saver, values={"a": 1})
    saver.put_writes(config, [("a", 2)], "task")
    saver.delete_thread("t")
    for model in (Run, Checkpoint, CheckpointBlob, CheckpointWrite):
        assert not model.objects.exists(), model
    assert Tombstone.objects.filter(run_id="t").exists()
    for late_write in (
        lambda: put(saver, parent=config["configurable"]["checkpoint_id"]),
        lambda: saver.put_writes(config, [("a", 3)], "task"),
    ):
        with pytest.raises(errors.Gone, match="was deleted"):
            late_write()
    assert not Run.objects.exists()
    assert saver.get_tuple(place("t")) is None
    saver.delete_thread("t")


def test_namespaces_share_nothing(saver):
    put(saver, "same", {"a": 1})
    other = DjangoSaver("beta")
    assert other.get_tuple(place("same")) is None
    put(other, "same", {"a": 2})
    other.delete_thread("same")
    other.prune(["same"])
    assert saver.get_tuple(place("same")).checkpoint["channel_values"] == {"a": 1}
    assert [item.config["configurable"]["thread_id"] for item in saver.list(None)] == ["same"]


def test_ids_that_do_not_fit_are_refused(saver):
    for bad in ("", "a/b", " padded", "x" * 201, "nul\x00"):
        with pytest.raises(errors.Malformed):
            put(saver, bad)


def test_the_run_of_a_graph_is_no_thread(saver, publish):
    run = start_run(publish("a"), RunOptions(run_id="taken"))
    with pytest.raises(errors.Conflict, match="run of a graph"):
        put(saver, "taken")
    assert Run.objects.get(pk=run.pk).status == "queued"


def test_filters_cannot_be_used_to_inject(saver):
    put(saver, "t", owner="ann")
    assert len(list(saver.list(None, filter={"owner": "ann"}))) == 1
    for hostile in ("owner' OR '1'='1", "owner__startswith", "x\x00", "%s"):
        assert not list(saver.list(None, filter={hostile: "a"}))


def test_threads_with_differences_are_not_pruned(saver):
    first = put(saver, values={"a": 1}, counters_since_delta_snapshot={"a": [1, 1]})
    put(
        saver,
        parent=first["configurable"]["checkpoint_id"],
        counters_since_delta_snapshot={"a": [2, 2]},
    )
    with pytest.raises(errors.Conflict, match="differences"):
        saver.prune(["t"])
    assert Checkpoint.objects.count() == 2


def test_pruning_deletes_the_values_that_are_no_longer_needed(saver):
    parent = ""
    versions = {"stays": "1"}
    for step in range(4):
        changes = {"changes": saver.get_next_version(versions.get("changes"), None)}
        new_versions = changes if step else versions | changes
        versions = versions | changes
        checkpoint = empty_checkpoint() | {
            "channel_values": {"changes": step, "stays": "same"},
            "channel_versions": versions,
        }
        config = saver.put(
            place("t", checkpoint_id=parent), checkpoint, {"step": step}, new_versions
        )
        parent = config["configurable"]["checkpoint_id"]
    assert CheckpointBlob.objects.count() == 5
    saver.prune(["t"])
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {
        "changes": 3,
        "stays": "same",
    }
    assert (Checkpoint.objects.count(), CheckpointBlob.objects.count()) == (1, 2)


def test_a_page_of_a_long_history_reads_a_constant_number_of_statements(
    saver, django_assert_max_num_queries
):
    parent = ""
    for step in range(60):
        config = put(saver, values={"a": step}, parent=parent, step=step)
        parent = config["configurable"]["checkpoint_id"]
    with django_assert_max_num_queries(5):
        page = list(saver.list(place("t"), limit=50))
    assert [item.metadata["step"] for item in page] == list(range(59, 9, -1))
    with django_assert_max_num_queries(5):
        assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": 59}


@pytest.mark.only_on("postgresql")
@pytest.mark.races
def test_a_connection_that_the_server_cut_is_replaced():
    saver = DjangoSaver("alpha")
    put(saver, values={"a": 1})
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert cursor.fetchall(), "the saver has connections of its own"
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": 1}


def test_names_that_do_not_fit_are_refused_on_every_database(saver):
    config = put(saver)
    too_long_or_reserved = [
        lambda: saver.put(place("t", checkpoint_ns="n" * 1501), empty_checkpoint(), {}, {}),
        lambda: put(saver, values={"c" * 501: 1}),
        lambda: saver.put_writes(config, [("a", 1)], "t" * 201),
        lambda: saver.put(place("t", checkpoint_ns=documents.NS), empty_checkpoint(), {}, {}),
    ]
    for put_wrong_name in too_long_or_reserved:
        with pytest.raises(errors.Malformed):
            put_wrong_name()
    saver.put_writes(config, [("a", 1)], "t", "p" * 5000)
    saver.put(
        {"configurable": {"thread_id": "t", "checkpoint_ns": "run-state"}},
        empty_checkpoint(),
        {},
        {},
    )
    assert saver.get_tuple({"configurable": {"thread_id": "t", "checkpoint_ns": "run-state"}})


def test_a_forked_child_has_threads_of_its_own(saver):
    put(saver, values={"a": 1})
    with db_executor._lock:  # Another thread of the parent is using it.
        child = os.fork()
        if not child:
            connections.close_all()
            stored = DjangoSaver("alpha").get_tuple(place("t"))
            os._exit(0 if stored.checkpoint["channel_values"] == {"a": 1} else 1)
    until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0), 20)
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": 1}


def test_calls_with_the_same_key_are_executed_in_order(saver):
    """Calls with the same key wait for the first one, and calls with other keys do not."""
    done = []
    started = threading.Event()
    release = threading.Event()

    def first():
        started.set()
        release.wait(20)
        done.append(0)

    with ThreadPoolExecutor(1) as pool:
        first_call = pool.submit(db_executor.call, "a", first)
        started.wait(20)
        others = [db_executor._submit("a", partial(done.append, number)) for number in range(1, 20)]
        assert db_executor.call("b", lambda: "others don't wait") == "others don't wait"
        assert not done
        release.set()
        first_call.result(20)
        for other in others:
            other.result(20)
    assert done == list(range(20))
    assert not db_executor._queues


def test_writes_for_a_deleted_checkpoint_are_not_stored(saver):
    """A task that is still running writes too late.

    That doesn't fail the thread, and leaves no rows to which nothing refers.
    """
    kept = put(saver, run_id="one")
    late = put(
        saver,
        parent=kept["configurable"]["checkpoint_id"],
        run_id="two",
        values={"branch:to:a": None},
    )
    saver.delete_for_runs(["two"])
    saver.put_writes(late, [(status.ERROR, ValueError("late"))], "task")
    run = Run.objects.get(run_id="t")
    assert (run.status, run.error_message) == ("completed", "")
    assert not CheckpointWrite.objects.exists()
    after = put(saver, parent=kept["configurable"]["checkpoint_id"], values={"branch:to:a": None})
    saver.put_writes(after, [("a", 1)], "task")
    assert CheckpointWrite.objects.count() == 1, "later writes are stored"
