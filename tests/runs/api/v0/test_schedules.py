"""Cron triggers of graphs: when they fire, and what happens if a graph cannot start."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from graphs.models import CronTrigger
from runs.actions import schedules
from runs.models import Run
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
