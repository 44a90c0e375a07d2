"""LangGraph threads in our tables: the conformance suite, and what it doesn't ask: NUL, concurrency, deletion that lasts, and threads as runs."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, connections

pytest.importorskip("langgraph.checkpoint.base")
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from graphs import errors
from graphs.access import SYSTEM
from graphs.models import Namespace
from runs import connecting, deleting, driving, explaining, snapshots, stopping, threads, verifying
from runs.checkpoints import DjangoSaver
from runs.models import Checkpoint, CheckpointBlob, CheckpointWrite, Run, Tombstone
from runs.starting import RunOptions, start_outside, start_run
from tests import langgraph_apps
from tests.clusters import until

pytestmark = pytest.mark.django_db(transaction=True)
CAPABILITIES = {"put", "put_writes", "get_tuple", "list", "delete_thread", "delete_for_runs", "copy_thread", "prune"}


def waited(make):
    """What a coroutine gives, in a thread of its own: a browser's tests leave an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()


def place(thread, **more):
    return {"configurable": {"thread_id": thread, "checkpoint_ns": "", **more}}


def put(saver, thread="t", values=None, parent="", **metadata):
    checkpoint = empty_checkpoint()
    versions = {channel: saver.get_next_version(None, None) for channel in values or {}}
    checkpoint |= {"channel_values": dict(values or {}), "channel_versions": versions}
    config = place(thread, **({"checkpoint_id": parent} if parent else {}))
    return saver.put(config, checkpoint, {"source": "loop", "step": 0, **metadata}, versions)


@pytest.fixture(autouse=True, scope="module")
def _closed():
    yield
    connecting.close()


@pytest.fixture
def saver():
    return DjangoSaver("alpha")


def test_the_conformance_suite():
    """All 81 tests of all eight capabilities, on the database of this lane."""

    @checkpointer_test(name="DjangoSaver")
    async def fresh():
        yield DjangoSaver("conformance")

    report = waited(lambda: validate(fresh))
    wrong = [failure for result in report.results.values() for failure in result.failures or ()]
    assert not wrong, wrong
    assert {name for name, result in report.results.items() if result.detected and result.passed} == CAPABILITIES
    assert sum(result.tests_passed for result in report.results.values()) == 81


def test_text_with_nul_comes_back(saver):
    value = {"text": "a\x00b", "\x00": ["\x00"], "lone": "ok"}
    put(saver, values={"channel": value}, note="x\x00y", nested={"k": "\x00"}, number=float("inf"))
    found = saver.get_tuple(place("t"))
    assert found.checkpoint["channel_values"] == {"channel": value}
    assert (found.metadata["note"], found.metadata["nested"], found.metadata["number"]) == ("xy", {"k": ""}, "inf")


def test_sync_is_async(saver):
    config = put(saver, values={"a": 1, "b": [2]})
    saver.put_writes(config, [("a", 3), ("b", 4)], "task", "path")
    same = waited(lambda: saver.aget_tuple(place("t")))
    assert same == saver.get_tuple(place("t"))
    assert same.pending_writes == [("task", "a", 3), ("task", "b", 4)]

    async def listed():
        return [each async for each in saver.alist(place("t"))]

    assert waited(listed) == list(saver.list(place("t")))


def test_writes_are_ordered_and_plain_ones_are_kept(saver):
    config = put(saver)
    saver.put_writes(config, [("a", 1)], "task-b", "1")
    saver.put_writes(config, [("a", 2)], "task-a", "2")
    saver.put_writes(config, [("a", 0)], "task-c", "")
    saver.put_writes(config, [("a", "late")], "task-b", "1")
    saver.put_writes(config, [("__interrupt__", "first")], "task-b", "1")
    saver.put_writes(config, [("__interrupt__", "second")], "task-b", "1")
    assert saver.get_tuple(place("t")).pending_writes == [
        ("task-c", "a", 0), ("task-b", "__interrupt__", "second"), ("task-b", "a", 1), ("task-a", "a", 2),
    ]  # fmt: skip


def test_a_deleted_thread_stays_deleted(saver):
    config = put(saver, values={"a": 1})
    saver.put_writes(config, [("a", 2)], "task")
    saver.delete_thread("t")
    assert (Run.objects.count(), Checkpoint.objects.count(), CheckpointBlob.objects.count(), CheckpointWrite.objects.count()) == (0, 0, 0, 0)
    assert Tombstone.objects.filter(run_id="t").exists()
    for late in (lambda: put(saver, parent=config["configurable"]["checkpoint_id"]), lambda: saver.put_writes(config, [("a", 3)], "task")):
        with pytest.raises(errors.Gone, match="was deleted"):
            late()
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
    assert [each.config["configurable"]["thread_id"] for each in saver.list(None)] == ["same"]


def test_ids_and_filters_that_attack(saver, publish):
    for bad in ("", "a/b", " padded", "x" * 201, "nul\x00"):
        with pytest.raises(errors.Malformed):
            put(saver, bad)
    run = start_run(publish("a"), RunOptions(run_id="taken"))
    with pytest.raises(errors.Conflict, match="run of a graph"):
        put(saver, "taken")
    put(saver, "t", owner="ann")
    assert len(list(saver.list(None, filter={"owner": "ann"}))) == 1
    for hostile in ("owner' OR '1'='1", "owner__startswith", "x\x00", "%s"):
        assert not list(saver.list(None, filter={hostile: "a"}))
    assert Run.objects.get(pk=run.pk).status == "queued"


class Planted:
    """What a checkpoint must not bring to life."""

    def __init__(self, value=""):
        raise AssertionError("it was called")


def test_only_harmless_types_come_to_life(saver):
    import ormsgpack

    planted = ormsgpack.packb({"x": ormsgpack.Ext(0, ormsgpack.packb((Planted.__module__, "Planted", "rm -rf")))})
    put(saver, values={"a": 1})
    CheckpointBlob.objects.update(type="msgpack", body=planted)
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": {"x": "rm -rf"}}
    CheckpointBlob.objects.update(type="pickle", body=b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(NotImplementedError):
        saver.get_tuple(place("t"))


def test_encrypted_values_are_no_plain_text_in_the_database():
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef") if langgraph_apps.has_aes() else langgraph_apps.fernet()
    saver = DjangoSaver("alpha", serde=serde)
    put(saver, values={"a": "a very secret value"})
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": "a very secret value"}
    stored = b"".join(bytes(row.body) for model in (CheckpointBlob, Checkpoint) for row in model.objects.all())
    assert b"secret" not in stored


def test_threads_with_differences_are_not_cut(saver):
    first = put(saver, values={"a": 1}, counters_since_delta_snapshot={"a": [1, 1]})
    put(saver, parent=first["configurable"]["checkpoint_id"], counters_since_delta_snapshot={"a": [2, 2]})
    with pytest.raises(errors.Conflict, match="differences"):
        saver.prune(["t"])
    assert Checkpoint.objects.count() == 2


def test_pruning_drops_the_values_that_nobody_needs(saver):
    parent, versions = "", {}
    for step in range(4):
        checkpoint = empty_checkpoint()
        versions = {**versions, "changes": saver.get_next_version(versions.get("changes"), None)} | ({} if versions else {"stays": "1"})
        checkpoint |= {"channel_values": {"changes": step, "stays": "same"}, "channel_versions": versions}
        new = {name: version for name, version in versions.items() if name == "changes" or not step}
        parent = saver.put(place("t", checkpoint_id=parent), checkpoint, {"step": step}, new)["configurable"]["checkpoint_id"]
    assert CheckpointBlob.objects.count() == 5
    saver.prune(["t"])
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"changes": 3, "stays": "same"}
    assert (Checkpoint.objects.count(), CheckpointBlob.objects.count()) == (1, 2)


def test_a_page_of_a_long_history_reads_a_constant_number_of_statements(saver, django_assert_max_num_queries):
    parent = ""
    for step in range(60):
        parent = put(saver, values={"a": step}, parent=parent, step=step)["configurable"]["checkpoint_id"]
    with django_assert_max_num_queries(5):
        assert [each.metadata["step"] for each in saver.list(place("t"), limit=50)] == list(range(59, 9, -1))
    with django_assert_max_num_queries(5):
        assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": 59}


# --- a thread is a run ----------------------------------------------------------------------------------------------


def test_an_application_with_an_interrupt(saver, admin_client, client, make_key):
    app, thread = langgraph_apps.approval(saver), {"configurable": {"thread_id": "order-1"}}
    app.invoke({"amount": 120}, thread)
    run = Run.objects.get(run_id="order-1")
    assert (run.status, run.current_node) == ("paused", "approve")
    assert "interrupt" in explaining.why_waiting(run)[0]
    app.invoke(langgraph_apps.answer("yes"), thread)
    run.refresh_from_db()
    assert (run.status, run.progress, app.get_state(thread).values["said"]) == ("completed", 100, ["asked", "approved: yes"])
    assert "order-1" in admin_client.get("/admin/run-manager/").content.decode()
    page = admin_client.get(f"/admin/run-manager/run/{run.pk}/checkpoints/").content.decode()
    newest = run.checkpoints.order_by("-checkpoint_id").first()
    assert newest.checkpoint_id in page
    shown = admin_client.get(f"/admin/run-manager/run/{run.pk}/checkpoints/?checkpoint={newest.pk}").content.decode()
    assert "approved: yes" in shown
    headers = {"X-API-Key": make_key("read")}
    listed = client.get("/runs/order-1/checkpoints", headers=headers).json()["checkpoints"]
    assert len(listed) == run.checkpoints.count()
    whole = client.get(f"/runs/order-1/checkpoints/{newest.checkpoint_id}", headers=headers).json()
    assert whole["values"]["said"] == ["asked", "approved: yes"]
    assert snapshots.run_state(run).memory_snapshots == [{"checkpoint_ns": "", "checkpoint_id": newest.checkpoint_id}]
    with pytest.raises(errors.Conflict, match="LangGraph"):
        driving.put_run_state(run, snapshots.run_state(run), SYSTEM)
    deleting.delete_run(run)
    assert not [found for found in verifying.verify() if "folders" not in found.said], "folders are left by tests whose database is emptied"
    assert not CheckpointWrite.objects.exists()


def test_a_failed_task_fails_the_run_and_going_on_mends_it(saver):
    app, thread = langgraph_apps.fragile(saver), {"configurable": {"thread_id": "t"}}
    with pytest.raises(ValueError, match="not yet"):
        app.invoke({"tries": 0}, thread)
    run = Run.objects.get(run_id="t")
    assert (run.status, "not yet" in run.error_message) == ("failed", True)
    langgraph_apps.fragile.ready = True
    try:
        app.invoke(None, thread)
    finally:
        langgraph_apps.fragile.ready = False
    run.refresh_from_db()
    assert (run.status, run.error_message) == ("completed", "")


def test_an_error_that_arrives_before_its_checkpoint_keeps_its_words(saver):
    """LangGraph stores from several threads: what a task wrote may come first, its checkpoint and the one before later."""
    before, its_own = empty_checkpoint(), empty_checkpoint()
    saver.put_writes(place("t", checkpoint_id=its_own["id"]), [(threads.ERROR, ValueError("not yet"))], "task")
    for checkpoint in (before, its_own):
        saver.put(place("t"), checkpoint | {"channel_values": {"branch:to:work": None}}, {"source": "loop", "step": 0}, {})
        run = Run.objects.get(run_id="t")
        assert (run.status, "not yet" in run.error_message) == ("failed", True)


def test_a_thread_in_the_middle_is_running(saver):
    seen = []
    app = langgraph_apps.watching(saver, lambda: seen.append(Run.objects.values_list("status", "current_node").get(run_id="t")))
    app.invoke({"said": []}, {"configurable": {"thread_id": "t"}}, durability="sync")
    assert seen == [("running", "look")]
    assert Run.objects.get(run_id="t").status == "completed"


def test_a_cancelled_thread_stops_its_application(saver):
    app, thread = langgraph_apps.approval(saver), {"configurable": {"thread_id": "t"}}
    app.invoke({"amount": 1}, thread)
    stopping.cancel_run(Run.objects.get(run_id="t"), SYSTEM)
    with pytest.raises(errors.Conflict, match="cancelled"):
        app.invoke(langgraph_apps.answer("yes"), thread)
    assert Run.objects.get(run_id="t").status == "cancelled"
    app.invoke({"amount": 2}, thread)
    assert Run.objects.get(run_id="t").status == "paused", "new input starts it again"


def test_many_channels_in_parallel_and_subgraphs(saver):
    app = langgraph_apps.spread(saver)
    result = app.invoke({"items": [1, 2, 3]}, {"configurable": {"thread_id": "t"}})
    assert sorted(result["results"]) == [2, 4, 6]
    assert Checkpoint.objects.filter(run__run_id="t").exclude(ns="").exists()
    assert Run.objects.get(run_id="t").status == "completed"
    saver.copy_thread("t", "copy")
    assert Run.objects.get(run_id="copy").status == "completed"
    assert app.get_state({"configurable": {"thread_id": "copy"}}).values == app.get_state({"configurable": {"thread_id": "t"}}).values
    assert len(list(app.get_state_history({"configurable": {"thread_id": "t"}}))) == Checkpoint.objects.filter(run__run_id="t", ns="").count()


@pytest.mark.races
def test_25_threads_at_once():
    wrong = []

    def work(number):
        try:
            saver = DjangoSaver("alpha")
            app = langgraph_apps.approval(saver)
            thread = {"configurable": {"thread_id": f"t{number}"}}
            app.invoke({"amount": number}, thread)
            app.invoke(langgraph_apps.answer(str(number)), thread)
            if app.get_state(thread).values["said"][-1] != f"approved: {number}":
                wrong.append((number, app.get_state(thread).values))
        except Exception as error:  # a thread's error would be lost
            wrong.append((number, error))
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(25)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong, wrong[:3]
    assert Run.objects.filter(status="completed").count() == 25
    assert Namespace.objects.filter(name="alpha").count() == 1


@pytest.mark.races
def test_a_connection_that_the_server_cut_is_replaced():
    if connection.vendor != "postgresql":
        return
    saver = DjangoSaver("alpha")
    put(saver, values={"a": 1})
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        assert cursor.fetchall(), "the saver has connections of its own"
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": 1}


def test_a_cancelled_or_paused_thread_stays_so(saver):
    config = put(saver, values={"branch:to:a": None})
    run = Run.objects.get(run_id="t")
    assert stopping.pause_run(run, SYSTEM).status == "paused"
    config = put(saver, values={"branch:to:b": None}, parent=config["configurable"]["checkpoint_id"])
    run.refresh_from_db()
    assert (run.status, run.held) == ("paused", True)
    stopping.resume_run(run, SYSTEM)
    stopping.cancel_run(run, SYSTEM)
    put(saver, "other")
    for verb in (lambda: saver.prune(["t"]), lambda: saver.copy_thread("other", "t"), lambda: saver.delete_for_runs(["x"])):
        verb()
        run.refresh_from_db()
        assert (run.status, run.error_message) == ("cancelled", f"Cancelled by {SYSTEM.label}")


def test_names_that_do_not_fit_are_refused_on_every_database(saver):
    config = put(saver)
    long = [
        lambda: saver.put(place("t", checkpoint_ns="n" * 1501), empty_checkpoint(), {}, {}),
        lambda: put(saver, values={"c" * 501: 1}),
        lambda: saver.put_writes(config, [("a", 1)], "t" * 201),
        lambda: saver.put(place("t", checkpoint_ns=snapshots.NS), empty_checkpoint(), {}, {}),
    ]
    for each in long:
        with pytest.raises(errors.Malformed):
            each()
    saver.put_writes(config, [("a", 1)], "t", "p" * 5000)
    saver.put({"configurable": {"thread_id": "t", "checkpoint_ns": "run-state"}}, empty_checkpoint(), {}, {})
    assert saver.get_tuple({"configurable": {"thread_id": "t", "checkpoint_ns": "run-state"}})


def test_a_thread_takes_no_run_of_another_program(saver):
    run = start_outside(Namespace.objects.create(name="alpha"), RunOptions(run_id="theirs"))
    driving.mark(run, "a", "started", SYSTEM)
    with pytest.raises(errors.Conflict, match="another program"):
        put(saver, "theirs")


def test_a_forked_child_has_threads_of_its_own(saver):
    put(saver, values={"a": 1})
    with connecting._lock:  # somebody in the parent is at it
        child = os.fork()
        if not child:
            connections.close_all()
            os._exit(0 if DjangoSaver("alpha").get_tuple(place("t")).checkpoint["channel_values"] == {"a": 1} else 1)
    until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0), 20)
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": 1}
