"""LangGraph threads in our tables: the conformance suite, and what it doesn't ask: NUL, concurrency, deletion that lasts, and threads as runs."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest
from django.db import connection, connections, transaction

pytest.importorskip("langgraph.checkpoint.base")
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import interrupt

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.models import Namespace
from runs.actions import delete
from runs.engine import control, counters
from runs.engine.start import RunOptions, start_outside, start_run
from runs.external import documents, updates
from runs.health import verify
from runs.langgraph import db_executor, status
from runs.langgraph.saver import DjangoSaver
from runs.models import Checkpoint, CheckpointBlob, CheckpointWrite, Run, Tombstone
from runs.queries import wait_reasons
from tests import langgraph_apps
from tests.clusters import until

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
    db_executor.close()


@pytest.fixture
def saver():
    return DjangoSaver("alpha")


def test_the_conformance_suite():
    """All 81 tests of all eight capabilities, on the database of this database."""

    @checkpointer_test(name="DjangoSaver")
    async def fresh():
        yield DjangoSaver("conformance")

    report = waited(lambda: validate(fresh))
    wrong = [failure for result in report.results.values() for failure in result.failures or ()]
    assert not wrong, wrong
    assert {
        name for name, result in report.results.items() if result.detected and result.passed
    } == CAPABILITIES
    assert sum(result.tests_passed for result in report.results.values()) == 81


def test_text_with_nul_comes_back(saver):
    value = {"text": "a\x00b", "\x00": ["\x00"], "lone": "ok"}
    put(saver, values={"channel": value}, note="x\x00y", nested={"k": "\x00"}, number=float("inf"))
    found = saver.get_tuple(place("t"))
    assert found.checkpoint["channel_values"] == {"channel": value}
    assert (found.metadata["note"], found.metadata["nested"], found.metadata["number"]) == (
        "xy",
        {"k": ""},
        "inf",
    )


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
    assert (
        Run.objects.count(),
        Checkpoint.objects.count(),
        CheckpointBlob.objects.count(),
        CheckpointWrite.objects.count(),
    ) == (0, 0, 0, 0)
    assert Tombstone.objects.filter(run_id="t").exists()
    for late in (
        lambda: put(saver, parent=config["configurable"]["checkpoint_id"]),
        lambda: saver.put_writes(config, [("a", 3)], "task"),
    ):
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
    """What a checkpoint must not bring to life; an error in it would be taken for a value that can't be rebuilt."""

    called = False

    def __init__(self, value=""):
        Planted.called = True


def test_only_harmless_types_come_to_life(saver):
    import ormsgpack

    planted = ormsgpack.packb(
        {"x": ormsgpack.Ext(0, ormsgpack.packb((Planted.__module__, "Planted", "rm -rf")))}
    )
    put(saver, values={"a": 1})
    CheckpointBlob.objects.update(type="msgpack", body=planted)
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": {"x": "rm -rf"}}
    assert not Planted.called
    CheckpointBlob.objects.update(type="pickle", body=b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(NotImplementedError):
        saver.get_tuple(place("t"))


@pytest.mark.parametrize("given", ["alone", "encrypted"])
def test_a_serialiser_that_would_allow_all_is_made_strict(given):
    import ormsgpack

    planted = ormsgpack.packb(
        ormsgpack.Ext(0, ormsgpack.packb((Planted.__module__, "Planted", "rm -rf")))
    )
    lax = JsonPlusSerializer(pickle_fallback=True, allowed_msgpack_modules=True)
    crypt = langgraph_apps.fernet(lax)
    Planted.called = False
    saver = DjangoSaver("alpha", serde=lax if given == "alone" else crypt)
    put(saver, values={"a": 1})
    name, body = crypt.cipher.encrypt(planted)
    CheckpointBlob.objects.update(
        type="msgpack" if given == "alone" else f"msgpack+{name}",
        body=planted if given == "alone" else body,
    )
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": "rm -rf"}
    assert not Planted.called


def test_a_plain_value_beside_encrypted_ones_is_refused():
    saver = DjangoSaver("alpha", serde=langgraph_apps.fernet())
    config = put(saver, values={"a": "mine"})
    plain = JsonPlusSerializer().dumps_typed("theirs")
    for model, wrong in (
        (CheckpointBlob, dict(zip(("type", "body"), plain, strict=True))),
        (Checkpoint, {"type": "null", "body": b""}),
    ):
        was = model.objects.values("id", "type", "body").get()
        model.objects.update(**wrong)
        with pytest.raises(ValueError, match="not encrypted"):
            saver.get_tuple(config)
        model.objects.update(**was)
    assert saver.get_tuple(config).checkpoint["channel_values"] == {"a": "mine"}


def test_what_no_text_can_say_is_shown_all_the_same(saver, admin_client, client, make_key):
    put(saver, values={"a": 1})
    CheckpointBlob.objects.update(type="json", body=b'{"\\ud800": ["\\udfff", "fine"]}')
    run, row = Run.objects.get(run_id="t"), Checkpoint.objects.get()
    shown = client.get(
        f"/runs/t/checkpoints/{row.checkpoint_id}", headers={"X-API-Key": make_key("read")}
    )
    assert shown.json()["values"] == {"a": {"?": ["?", "fine"]}}
    assert (
        "fine"
        in admin_client.get(
            f"/admin/run-manager/run/{run.pk}/checkpoints/?checkpoint={row.pk}"
        ).content.decode()
    )


def test_encrypted_values_are_no_plain_text_in_the_database():
    serde = (
        EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
        if langgraph_apps.has_aes()
        else langgraph_apps.fernet()
    )
    saver = DjangoSaver("alpha", serde=serde)
    put(saver, values={"a": "a very secret value"})
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": "a very secret value"}
    stored = b"".join(
        bytes(row.body) for model in (CheckpointBlob, Checkpoint) for row in model.objects.all()
    )
    assert b"secret" not in stored


def test_threads_with_differences_are_not_cut(saver):
    first = put(saver, values={"a": 1}, counters_since_delta_snapshot={"a": [1, 1]})
    put(
        saver,
        parent=first["configurable"]["checkpoint_id"],
        counters_since_delta_snapshot={"a": [2, 2]},
    )
    with pytest.raises(errors.Conflict, match="differences"):
        saver.prune(["t"])
    assert Checkpoint.objects.count() == 2


def test_pruning_drops_the_values_that_nobody_needs(saver):
    parent, versions = "", {}
    for step in range(4):
        checkpoint = empty_checkpoint()
        versions = {
            **versions,
            "changes": saver.get_next_version(versions.get("changes"), None),
        } | ({} if versions else {"stays": "1"})
        checkpoint |= {
            "channel_values": {"changes": step, "stays": "same"},
            "channel_versions": versions,
        }
        new = {name: version for name, version in versions.items() if name == "changes" or not step}
        parent = saver.put(place("t", checkpoint_id=parent), checkpoint, {"step": step}, new)[
            "configurable"
        ]["checkpoint_id"]
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
        parent = put(saver, values={"a": step}, parent=parent, step=step)["configurable"][
            "checkpoint_id"
        ]
    with django_assert_max_num_queries(5):
        assert [each.metadata["step"] for each in saver.list(place("t"), limit=50)] == list(
            range(59, 9, -1)
        )
    with django_assert_max_num_queries(5):
        assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": 59}


# --- a thread is a run ----------------------------------------------------------------------------------------------


def test_an_application_with_an_interrupt(saver, admin_client, client, make_key):
    app, thread = langgraph_apps.approval(saver), {"configurable": {"thread_id": "order-1"}}
    app.invoke({"amount": 120}, thread)
    run = Run.objects.get(run_id="order-1")
    assert (run.status, run.current_node) == ("paused", "approve")
    assert "interrupt" in wait_reasons.why_waiting(run)[0]
    app.invoke(langgraph_apps.answer("yes"), thread)
    run.refresh_from_db()
    assert (run.status, run.progress, app.get_state(thread).values["said"]) == (
        "completed",
        100,
        ["asked", "approved: yes"],
    )
    assert "order-1" in admin_client.get("/admin/run-manager/").content.decode()
    page = admin_client.get(f"/admin/run-manager/run/{run.pk}/checkpoints/").content.decode()
    newest = run.checkpoints.order_by("-checkpoint_id").first()
    assert newest.checkpoint_id in page
    shown = admin_client.get(
        f"/admin/run-manager/run/{run.pk}/checkpoints/?checkpoint={newest.pk}"
    ).content.decode()
    assert "approved: yes" in shown
    headers = {"X-API-Key": make_key("read")}
    listed = client.get("/runs/order-1/checkpoints", headers=headers).json()["checkpoints"]
    assert len(listed) == run.checkpoints.count()
    whole = client.get(f"/runs/order-1/checkpoints/{newest.checkpoint_id}", headers=headers).json()
    assert whole["values"]["said"] == ["asked", "approved: yes"]
    assert documents.run_state(run).memory_snapshots == [
        {"checkpoint_ns": "", "checkpoint_id": newest.checkpoint_id}
    ]
    with pytest.raises(errors.Conflict, match="LangGraph"):
        updates.put_run_state(run, documents.run_state(run), SYSTEM)
    delete.delete_run(run)
    assert not [found for found in verify.verify() if "folders" not in found.said], (
        "folders are left by tests whose database is emptied"
    )
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
    saver.put_writes(
        place("t", checkpoint_id=its_own["id"]), [(status.ERROR, ValueError("not yet"))], "task"
    )
    for checkpoint in (before, its_own):
        saver.put(
            place("t"),
            checkpoint | {"channel_values": {"branch:to:work": None}},
            {"source": "loop", "step": 0},
            {},
        )
        run = Run.objects.get(run_id="t")
        assert (run.status, "not yet" in run.error_message) == ("failed", True)


def test_a_thread_in_the_middle_is_running(saver):
    seen = []
    app = langgraph_apps.watching(
        saver,
        lambda: seen.append(Run.objects.values_list("status", "current_node").get(run_id="t")),
    )
    app.invoke({"said": []}, {"configurable": {"thread_id": "t"}}, durability="sync")
    assert seen == [("running", "look")]
    assert Run.objects.get(run_id="t").status == "completed"


def test_a_cancelled_thread_stops_its_application(saver):
    app, thread = langgraph_apps.approval(saver), {"configurable": {"thread_id": "t"}}
    app.invoke({"amount": 1}, thread)
    control.cancel_run(Run.objects.get(run_id="t"), SYSTEM)
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
    assert (
        app.get_state({"configurable": {"thread_id": "copy"}}).values
        == app.get_state({"configurable": {"thread_id": "t"}}).values
    )
    assert (
        len(list(app.get_state_history({"configurable": {"thread_id": "t"}})))
        == Checkpoint.objects.filter(run__run_id="t", ns="").count()
    )


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
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert cursor.fetchall(), "the saver has connections of its own"
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": 1}


def test_a_cancelled_or_paused_thread_stays_so(saver):
    config = put(saver, values={"branch:to:a": None})
    run = Run.objects.get(run_id="t")
    assert control.pause_run(run, SYSTEM).status == "paused"
    config = put(
        saver, values={"branch:to:b": None}, parent=config["configurable"]["checkpoint_id"]
    )
    run.refresh_from_db()
    assert (run.status, run.paused) == ("paused", True)
    control.resume_run(run, SYSTEM)
    control.cancel_run(run, SYSTEM)
    put(saver, "other")
    for verb in (
        lambda: saver.prune(["t"]),
        lambda: saver.copy_thread("other", "t"),
        lambda: saver.delete_for_runs(["x"]),
    ):
        verb()
        run.refresh_from_db()
        assert (run.status, run.error_message) == ("cancelled", f"Cancelled by {SYSTEM.label}")


def test_names_that_do_not_fit_are_refused_on_every_database(saver):
    config = put(saver)
    long = [
        lambda: saver.put(place("t", checkpoint_ns="n" * 1501), empty_checkpoint(), {}, {}),
        lambda: put(saver, values={"c" * 501: 1}),
        lambda: saver.put_writes(config, [("a", 1)], "t" * 201),
        lambda: saver.put(place("t", checkpoint_ns=documents.NS), empty_checkpoint(), {}, {}),
    ]
    for each in long:
        with pytest.raises(errors.Malformed):
            each()
    saver.put_writes(config, [("a", 1)], "t", "p" * 5000)
    saver.put(
        {"configurable": {"thread_id": "t", "checkpoint_ns": "run-state"}},
        empty_checkpoint(),
        {},
        {},
    )
    assert saver.get_tuple({"configurable": {"thread_id": "t", "checkpoint_ns": "run-state"}})


def test_a_thread_takes_no_run_of_another_program(saver):
    run = start_outside(Namespace.objects.create(name="alpha"), RunOptions(run_id="theirs"))
    updates.mark(run, "a", "started", SYSTEM)
    with pytest.raises(errors.Conflict, match="another program"):
        put(saver, "theirs")


def test_a_forked_child_has_threads_of_its_own(saver):
    put(saver, values={"a": 1})
    with db_executor._lock:  # somebody in the parent is at it
        child = os.fork()
        if not child:
            connections.close_all()
            os._exit(
                0
                if DjangoSaver("alpha").get_tuple(place("t")).checkpoint["channel_values"]
                == {"a": 1}
                else 1
            )
    until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0), 20)
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": 1}


@pytest.mark.parametrize("app", ["two_questions", "answered_in_vain"])
def test_what_follows_an_answer_is_stored_after_it(saver, app):
    """LangGraph stores the answer and what the task says next from threads of its own; the run ends as the application did, each time."""
    expected = {"two_questions": "paused", "answered_in_vain": "failed"}[app]
    app = getattr(langgraph_apps, app)(saver)
    for number in range(40):
        thread = {"configurable": {"thread_id": f"t{number}"}}
        app.invoke({"said": []}, thread)
        with suppress(ValueError):
            app.invoke(langgraph_apps.answer("one"), thread)
    found = Run.objects.values_list("status", flat=True)
    assert list(found) == [expected] * 40


def test_work_under_one_key_is_done_in_its_order(saver):
    """However many threads there are for it, and however long the first takes."""
    done, begun, go = [], threading.Event(), threading.Event()

    def first():
        begun.set()
        go.wait(20)
        done.append(0)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(db_executor.call, "a", first)
        begun.wait(20)
        others = [db_executor._submit("a", partial(done.append, number)) for number in range(1, 20)]
        assert db_executor.call("b", lambda: "others don't wait") == "others don't wait"
        assert not done
        go.set()
        held.result(20)
        for each in others:
            each.result(20)
    assert done == list(range(20))
    assert not db_executor._queues


def test_a_failure_beside_a_question_is_a_failure_with_its_words(saver):
    """In whatever order the two are told; once the failed task is done, what is asked counts."""

    def fail():
        raise ValueError("no such order")

    for number, tasks in enumerate(
        ({"a": fail, "b": lambda: interrupt("well?")}, {"a": lambda: interrupt("well?"), "b": fail})
    ):
        thread = {"configurable": {"thread_id": f"t{number}"}}
        with pytest.raises(ValueError, match="order"):
            langgraph_apps.side_by_side(saver, **tasks).invoke({"said": []}, thread)
        run = Run.objects.get(run_id=f"t{number}")
        assert (run.status, "no such order" in run.error_message) == ("failed", True)
        langgraph_apps.side_by_side(
            saver, **tasks | {name: lambda: "found" for name, task in tasks.items() if task is fail}
        ).invoke(None, thread)
        run.refresh_from_db()
        assert (run.status, run.error_message) == ("paused", "")


def test_a_node_that_waits_for_two_others_is_still_to_run(saver):
    app, thread = langgraph_apps.joining(saver), {"configurable": {"thread_id": "t"}}
    app.invoke({"said": []}, thread)
    run = Run.objects.get(run_id="t")
    assert (run.status, run.current_node) == ("running", "c")
    app.invoke(None, thread)
    run.refresh_from_db()
    assert (run.status, app.get_state(thread).values["said"]) == ("completed", ["a", "b", "c"])


def test_what_belongs_to_a_deleted_checkpoint_is_not_kept(saver):
    """A task that is still at it says what it has to say too late: that fails no thread, and leaves no rows that nothing refers to."""
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
    assert CheckpointWrite.objects.count() == 1, "what comes after is kept"


def test_a_thread_that_was_taken_meanwhile_is_refused(saver):
    """Whose run it is, is looked at when nobody else can change it any more."""
    run = start_outside(Namespace.objects.create(name="alpha"), RunOptions(run_id="both"))
    document = documents.run_state(run)
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        counters.lock([run.pk])
        other = pool.submit(put, DjangoSaver("alpha"), "both")
        until(lambda: connection.vendor == "sqlite" or _lock_is_awaited(), 10)
        updates.put_run_state(run, document, SYSTEM)
    with pytest.raises(errors.Conflict, match="another program"):
        other.result(30)
    assert not Checkpoint.objects.filter(run=run, ns="").exists()


def _lock_is_awaited():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()[0] > 0
