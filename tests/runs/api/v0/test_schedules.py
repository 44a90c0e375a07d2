"""Cron triggers of graphs: when they fire, and what happens if a graph cannot start."""

from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from graphs.models import CronTrigger, GraphVersion, Namespace
from runs.actions import schedules
from runs.models import LogLine, Run, State
from tests.support.concurrency import at_once
from tests.support.invariants import assert_counters_agree
from tests.support.v0_client import node

pytestmark = pytest.mark.django_db
CRON = [{"type": "CRON", "value": {"expression": "0 9 * * *", "timezone": "Europe/Berlin"}}]


def test_triggers_belong_to_their_graph(api, other):
    for client in (api, other):
        client.upsert("g", node("a", namespace=client.namespace), triggers=CRON)
    kept = CronTrigger.objects.get(graph__namespace__name="beta")
    assert kept.next_at.astimezone(UTC).hour in (7, 8)  # Nine o'clock in Berlin.
    for _ in range(3):
        assert api.upsert("g", node("a"), triggers=CRON + CRON)["validation_status"] == "VALID"
    assert CronTrigger.objects.filter(graph__namespace__name="alpha").count() == 1
    api.upsert("g", node("a"))
    assert list(CronTrigger.objects.all()) == [kept]


@pytest.mark.parametrize("wrong", ["61 * * * *", "* * * *", "@reboot", "x", "", "0 0 30 2 *"])
def test_expressions_are_checked_when_they_are_saved(api, wrong):
    trigger = {"type": "CRON", "value": {"expression": wrong}}
    api.upsert("g", node("a"), triggers=[trigger], status=422)
    api.upsert(
        "g",
        node("a"),
        triggers=[{"type": "CRON", "value": {"expression": "0 9 * * *", "timezone": wrong}}],
        status=422,
    )


@pytest.mark.django_db(transaction=True)
def test_each_due_time_fires_once_and_missed_ones_are_skipped(api):
    api.upsert("g", node("a"), triggers=[{"type": "CRON", "value": {"expression": "*/5 * * * *"}}])
    due = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    CronTrigger.objects.update(next_at=due)
    now = due + timedelta(minutes=62)
    assert sum(at_once(*(lambda: schedules.fire_due(now) for _ in range(8)))) == 1
    trigger, run = CronTrigger.objects.get(), Run.objects.get()
    assert (trigger.next_at, trigger.missed, run.trigger) == (
        due + timedelta(minutes=65),
        12,
        "schedule",
    )
    assert "12 earlier due times" in run.logs.last().message
    assert schedules.fire_due(now) == 0
    assert_counters_agree(run)


def test_a_trigger_whose_graph_cannot_start_keeps_its_error_and_its_schedule(api):
    config = {"required_keys": ["k"], "default_values": {}}
    api.upsert(
        "g",
        node("a"),
        store_config=config,
        triggers=[{"type": "CRON", "value": {"expression": "* * * * *"}}],
    )
    for _ in range(2):
        CronTrigger.objects.update(next_at=timezone.now() - timedelta(seconds=1))
        assert schedules.fire_due() == 0
        trigger = CronTrigger.objects.get()
        assert "store keys k" in trigger.error
        assert trigger.next_at > timezone.now()
    assert not Run.objects.exists()


# --- many at once --------------------------------------------------------------------------------

DUE = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ZONES = sorted(available_timezones())


def make_due(graphs, count, due=DUE):
    """As many triggers of each of these graphs."""
    CronTrigger.objects.bulk_create(
        CronTrigger(graph=graph, expression="* * * * *", time_zone=ZONES[at], next_at=due)
        for graph in graphs
        for at in range(count)
    )


@pytest.mark.django_db(transaction=True)
def test_several_hosts_fire_a_thousand_triggers_once_each(publish):
    make_due([publish("a", name=f"g{at}") for at in range(25)], 40)
    fired = at_once(*(lambda: schedules.fire_due(DUE) for _ in range(4)))
    while more := schedules.fire_due(DUE):  # graphs that another host had locked
        fired.append(more)
    assert sum(fired) == Run.objects.count() == State.objects.count() == 1000
    triggers = CronTrigger.objects.all()
    assert {trigger.next_at for trigger in triggers} == {DUE + timedelta(minutes=1)}
    reasons = Run.objects.values_list("graph", "metadata__trigger")
    assert len(set(reasons)) == 1000


def test_triggers_that_fail_keep_none_from_firing(publish, monkeypatch):
    graphs = [publish("a", name=f"g{at}") for at in range(3)]
    make_due(graphs, 20)
    GraphVersion.objects.filter(pk=graphs[1].current_id).update(
        problems=[{"message": "a kind is missing"}]
    )
    prepared = schedules.prepare

    def prepare(graph, *args):
        if graph == graphs[2]:
            raise ZeroDivisionError("division by zero")
        return prepared(graph, *args)

    monkeypatch.setattr(schedules, "prepare", prepare)
    monkeypatch.setattr(schedules.log, "exception", lambda *_: None)
    assert schedules.fire_due(DUE) == 20
    of_graph = [CronTrigger.objects.filter(graph=graph) for graph in graphs]
    assert {trigger.error for trigger in of_graph[0]} == {""}
    assert {"a kind is missing" in trigger.error for trigger in of_graph[1]} == {True}
    assert {trigger.next_at for trigger in of_graph[1]} == {DUE + timedelta(minutes=1)}
    assert {(trigger.error, trigger.next_at) for trigger in of_graph[2]} == {
        ("ZeroDivisionError: division by zero", DUE + schedules.PAUSE_AFTER_ERROR)
    }


def test_a_full_namespace_fires_nothing_and_says_so(publish, namespace):
    graph = publish("a")
    make_due([graph], 3)
    Namespace.objects.filter(pk=namespace.pk).update(max_stored_bytes=0)
    assert schedules.fire_due(DUE) == 0
    assert {"are allowed" in trigger.error for trigger in CronTrigger.objects.all()} == {True}


def test_a_batch_costs_a_constant_number_of_statements(publish):
    graph = publish("a")
    counts = []
    for count in (1, 3, 90):  # the first reads the definition, too
        CronTrigger.objects.all().delete()
        make_due([graph], count)
        with CaptureQueriesContext(connection) as queries:
            assert schedules.fire_due(DUE + timedelta(minutes=5)) == count
        counts.append(len(queries))
    assert counts[1] == counts[2]
    assert LogLine.objects.filter(level="warning").count() == 94
    for run in Run.objects.all()[:5]:
        assert run.log_count == run.logs.count() == 2


@pytest.mark.only_on("postgresql")
@pytest.mark.django_db(transaction=True)
def test_a_locked_trigger_holds_up_no_other(publish):
    make_due([publish("a")], 20)
    first = CronTrigger.objects.order_by("pk")[:1]
    with transaction.atomic():
        list(CronTrigger.objects.select_for_update().filter(pk=first[0].pk))
        assert at_once(lambda: schedules.fire_due(DUE)) == [19]
    assert schedules.fire_due(DUE) == 1


def test_due_times_are_counted_for_as_long_as_there_is_time(publish, monkeypatch):
    make_due([publish("a")], 20)
    monkeypatch.setattr(schedules, "COUNTING_SECONDS", 0)
    now = DUE + timedelta(minutes=30)
    assert schedules.fire_due(now) == 1
    assert schedules.fire_due(now) == 1
    monkeypatch.undo()
    assert schedules.fire_due(now) == 18
    assert {trigger.missed for trigger in CronTrigger.objects.all()} == {30}
