"""The Python API: runs that other code of the project starts and follows."""

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections, transaction

from graphs.models import Namespace, NamespaceMembership
from runs.models import AuditEntry, Run, State
from statemanager import api
from tests.support.invariants import assert_counters_agree

pytestmark = pytest.mark.django_db


@pytest.fixture
def orders(publish):
    """A graph of the namespace default that passes on the number that it is given."""
    default, _ = Namespace.objects.get_or_create(name="default")
    inputs = {"a": {"value": "${{ run.inputs.number }}"}, "b": {"value": "${{ a.outputs.value }}"}}
    return publish("a>b", name="orders", namespace=default, inputs=inputs)


def test_a_run_is_started_and_its_result_read(orders, drain):
    run = api.start("orders", {"number": 17}, run_id="order-17", labels={"env": "prod"})
    assert (run.run_id, run.status, run.namespace) == ("order-17", "queued", "default")
    drain()
    assert run.result(timeout=5) == {"b": {"value": 17}}
    assert run.status == "completed"
    assert run.outputs("a") == [{"value": 17}]
    stored = Run.objects.get()
    assert (stored.labels, stored.initial_data) == ({"env": "prod"}, {"number": 17})
    assert api.get("order-17").run == stored


def test_the_same_start_twice_is_one_run(orders):
    first = api.start("orders", {"number": 1}, run_id="one")
    assert api.start(orders, {"number": 1}, run_id="one").run == first.run
    with pytest.raises(api.Conflict):
        api.start("orders", {"number": 2}, run_id="one")
    assert Run.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_start_is_part_of_the_callers_transaction(orders, drain):
    def seen_by_others():
        found = []

        def look():
            found.append(Run.objects.count())
            connections.close_all()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return found[0]

    with transaction.atomic():
        api.start("orders", {"number": 1}, run_id="undone")
        api.start_many("orders", [{"inputs": {"number": 2}}] * 3)
        assert Run.objects.count() == 4
        assert seen_by_others() == 0
        transaction.set_rollback(True)
    assert (Run.objects.count(), State.objects.count()) == (0, 0)
    assert not AuditEntry.objects.filter(action="start").exists()
    assert drain() == 0

    with transaction.atomic():
        user = User.objects.create_user("with the run")
        run = api.start("orders", {"number": 1})
    assert seen_by_others() == 1
    drain()
    assert run.result(timeout=5) == {"b": {"value": 1}}
    assert User.objects.filter(pk=user.pk).exists()


def test_many_runs_start_together_or_not_at_all(orders, drain):
    items = [{"inputs": {"number": number}, "run_id": f"r{number}"} for number in range(20)]
    started = api.start_many("orders", items)
    assert [run.run_id for run in started] == [f"r{number}" for number in range(20)]
    assert [run.run for run in api.start_many("orders", items)] == [run.run for run in started]
    with pytest.raises(api.Malformed):
        api.start_many("orders", [{"run_id": "new"}, {"inputs": {"number": "x" * (3 * 2**20)}}])
    assert Run.objects.count() == 20
    drain()
    assert started[19].result(timeout=5) == {"b": {"value": 19}}


def test_a_result_that_does_not_come(orders, publish, drain):
    run = api.start("orders", {"number": 1})
    with pytest.raises(TimeoutError, match="still queued"):
        run.result(timeout=0.1)
    failing = publish("a", name="fails", kinds={"a": "test.fail"})
    run = api.start(failing)
    drain()
    with pytest.raises(api.RunFailed, match="is failed: a: ValueError: broken") as caught:
        run.result(timeout=5)
    assert caught.value.run is run


def test_a_fan_out_has_a_list_of_results(publish, drain):
    graph = publish(
        "each>b",
        name="fan",
        kinds={"each": "fan_out"},
        inputs={"each": {"items": [*range(12)]}, "b": {"value": "${{ each.outputs.item }}"}},
    )
    run = api.start(graph)
    drain()
    assert run.result(timeout=5) == {"b": [{"value": number} for number in range(12)]}


def test_the_verbs_of_a_run(orders, publish, drain):
    run = api.start("orders", {"number": 1}, run_id="one").pause()
    assert run.status == "paused"
    assert run.resume().status in ("queued", "running")
    assert run.cancel().status == "cancelled"
    assert run.retry().status in ("queued", "running")
    drain()
    again = run.rerun(inputs={"number": 2}, idempotency_key="k")
    assert run.rerun(inputs={"number": 2}, idempotency_key="k").run == again.run
    drain()
    assert again.result(timeout=5) == {"b": {"value": 2}}
    assert_counters_agree(again.run)
    again.delete()
    with pytest.raises(api.NotFound):
        again.refresh()
    with pytest.raises(api.NotFound):
        api.get(again.run_id)


def test_questions_are_answered(publish, drain):
    run = api.start(publish("q>after p>after", name="asks", kinds=dict.fromkeys("qp", "test.ask")))
    drain()
    with pytest.raises(api.Conflict, match="name the node"):
        run.answer(5)
    with pytest.raises(api.Malformed):
        run.answer("five", node="q")
    run.answer(5, node="q").answer(6, node="p")
    drain()
    assert run.outputs("q") == [{"value": 5}]
    with pytest.raises(api.NotFound):
        run.answer(7)


def test_runs_are_found_by_the_words_of_the_list(orders):
    for number in range(3):
        api.start("orders", {"number": number}, run_id=f"r{number}", labels={"n": str(number)})
    found = api.runs(graph="orders", status="queued")
    assert [run.run_id for run in found] == ["r2", "r1", "r0"]
    assert api.runs(search="label:n=1").get().run_id == "r1"
    for wrong in ({"colour": "red"}, {"status": "exploded"}):
        with pytest.raises(api.Malformed):
            api.runs(**wrong)


def test_a_user_may_do_what_the_user_may_do(orders, publish):
    user = User.objects.create_user("ann", is_staff=True)
    default = Namespace.objects.get(name="default")
    membership = NamespaceMembership.objects.create(namespace=default, user=user, role="viewer")
    with pytest.raises(api.Forbidden):
        api.start("orders", {"number": 1}, user=user)
    membership.role = "operator"
    membership.save()
    user = User.objects.get(pk=user.pk)
    run = api.start("orders", {"number": 1}, run_id="hers", user=user)
    assert run.run.username == "ann"
    assert AuditEntry.objects.get(action="start").actor == "ann"
    publish("a", name="other")  # in the namespace alpha
    with pytest.raises(api.NotFound):
        api.start("other", namespace="alpha", user=user)
    assert list(api.runs(user=user)) == [run.run]


def test_a_user_who_sees_no_payloads_gets_none(publish, drain):
    graph = publish("a b", name="fails", kinds={"a": "test.fail"})
    run = api.start(graph, run_id="failed")
    drain()
    user = User.objects.create_user("viewer", is_staff=True)
    NamespaceMembership.objects.create(namespace=graph.namespace, user=user, role="viewer")
    seen = api.get("failed", namespace=graph.namespace.name, user=user)
    assert "broken" not in seen.error
    with pytest.raises(api.Forbidden):
        seen.outputs("b")
    assert run.refresh().error == "a: ValueError: broken"


@pytest.mark.parametrize("options", [{"colour": "red"}, {"enqueue": True}])
def test_an_unknown_option_is_an_error(orders, options):
    with pytest.raises(TypeError, match="There is no option"):
        api.start("orders", **options)
    with pytest.raises(api.NotFound):
        api.start("nothing")


@pytest.mark.django_db(transaction=True)
def test_a_coroutine_starts_a_run_and_waits_for_it(orders, executor):
    async def main():
        run = await api.astart("orders", {"number": 5})
        waiting = asyncio.create_task(run.aresult(timeout=20))
        await asyncio.to_thread(work)
        result = await waiting
        await sync_to_async(connections.close_all)()
        return result

    def work():
        executor.drain()
        connections.close_all()

    assert asyncio.run(main()) == {"b": {"value": 5}}
