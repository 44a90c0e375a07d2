"""Firing schedules: those that start graphs, and those that rerun runs.

Several hosts may fire them: moving a schedule to its next time and starting the run are one
transaction, so each due time starts one run. Due times that passed while no host was running are
not made up for: the newest one fires, and the schedule and the run say how many were missed.

Cron triggers fire in batches, because thousands may be due at the same minute.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import TypeVar

from django.db import transaction
from django.db.models import F, Q, QuerySet

from graphs.auth.callers import SYSTEM, username_of
from graphs.definition import cron, errors
from graphs.definition.types import JsonObject
from graphs.models import CronTrigger, Graph, Schedule
from runs.actions.rerun import RerunOptions, rerun
from runs.core import db_errors, sql
from runs.engine import counters, quota, start_many
from runs.engine.new_run import RunOptions, Start, prepare, startable
from runs.models import LogLine, RecurringRerun, Run

S = TypeVar("S", bound=Schedule)
Passed = tuple[int, datetime]  # how many due times were missed, and the next one
log = logging.getLogger(__name__)
BATCH = 500  # cron triggers in one transaction
ROUND_SECONDS = 5.0
COUNTING_SECONDS = 1.0  # for counting the missed due times of a batch
RERUNS = 100  # in a round
PAUSE_AFTER_ERROR = timedelta(hours=1)
MAX_ERROR_LENGTH = 2000


def fire_due(now: datetime | None = None) -> int:
    """Fire the schedules whose time has come. Returns the number of runs started."""
    now = now or sql.clock()
    return _fire_triggers(now) + _fire_reruns(now)


def _due(model: type[S], now: datetime, *related: str) -> QuerySet[S]:
    """The schedules whose time has come, those that have been due longest first."""
    due = model._default_manager.filter(enabled=True, next_at__lte=now)
    return due.order_by("next_at", "pk").select_related(*related)


def _fire_safely(
    fire: Callable[[Sequence[S], datetime], int], due: Sequence[S], now: datetime, until: float
) -> int:
    """Fire these schedules, with new attempts until that time of the monotonic clock.

    One that breaks is paused, and does not keep the others from firing. One that something else has
    locked is left to the next round.
    """
    try:
        return fire(due, now)
    except Exception as error:
        if db_errors.is_away(error):
            raise
        is_contention = db_errors.is_contention(error)
        if len(due) > 1 and (monotonic() < until or not is_contention):
            halves = due[: len(due) // 2], due[len(due) // 2 :]
            return sum(_fire_safely(fire, half, now, until) for half in halves)
        if not is_contention:
            _pause(due[0], now, error)
        return 0


def _pause(schedule: Schedule, now: datetime, error: Exception) -> None:
    log.exception("schedule %s %s could not be fired", schedule.pk, schedule)
    unchanged = type(schedule)._default_manager.filter(pk=schedule.pk, next_at=schedule.next_at)
    message = f"{type(error).__name__}: {error}"[:MAX_ERROR_LENGTH]
    unchanged.update(next_at=now + PAUSE_AFTER_ERROR, error=message)


def _passed(schedule: Schedule, now: datetime) -> Passed:
    """How many due times passed since the one that fires now, and the next one."""
    assert schedule.next_at is not None
    return cron.passed(schedule.expression, schedule.time_zone, schedule.next_at, now)


def _reason(schedule: Schedule, missed: int) -> JsonObject:
    """Why the run was started."""
    assert schedule.next_at is not None
    return {"trigger": str(schedule), "due_at": schedule.next_at.isoformat(), "missed": missed}


def _missed_line(schedule: Schedule, missed: int) -> str:
    times = "1 earlier due time" if missed == 1 else f"{missed:,} earlier due times"
    return f"{times} of {schedule} passed without a run; they are not made up for"


# --- cron triggers -------------------------------------------------------------------------------


def _fire_triggers(now: datetime) -> int:
    """Fire the cron triggers that are due, batch by batch, for at most ROUND_SECONDS."""
    fired = 0
    until = monotonic() + ROUND_SECONDS
    due = _due(CronTrigger, now, "graph__namespace", "graph__current")
    due = due.defer("graph__current__definition")  # known by its checksum
    batch = list(due[:BATCH])
    while batch:
        fired += _fire_safely(_fire_batch, batch, now, until)
        if len(batch) < BATCH or monotonic() > until:
            break
        last = batch[-1]  # those before it fired, or wait for the next round
        after = Q(next_at__gt=last.next_at) | Q(next_at=last.next_at, pk__gt=last.pk)
        batch = list(due.filter(after)[:BATCH])
    return fired


def _fire_batch(triggers: Sequence[CronTrigger], now: datetime) -> int:
    """Start the graphs of these triggers in one transaction. Returns the number of runs started.

    If a graph can't start, its trigger gets the error and waits for its next time. Triggers whose
    graphs something else has locked are left to the next round.
    """
    passed = _passed_of(triggers, now)
    with transaction.atomic():
        # Graphs are locked before their triggers, as when they are deleted. Otherwise the two could
        # wait for each other.
        graphs = {trigger.graph_id for trigger in triggers}
        locked = set(Graph.objects.lock(*graphs, skip_locked=True).values_list("pk", flat=True))
        due = {
            trigger.pk: trigger
            for trigger in triggers
            if trigger.graph_id in locked and trigger.pk in passed
        }
        moved = _move(due, passed, now)
        starts: list[Start] = []
        lines: dict[str, str] = {}  # by run id
        failed: dict[str, list[int]] = defaultdict(list)  # triggers by what is wrong
        for trigger, missed in moved:
            try:
                start = _start_of(trigger, missed)
            except errors.StateManagerError as error:
                log.warning("schedule %s %s could not start a run: %s", trigger.pk, trigger, error)
                failed[str(error)[:MAX_ERROR_LENGTH]].append(trigger.pk)
                continue
            starts.append(start)
            if missed:
                lines[start.run.run_id] = _missed_line(trigger, missed)
                start.run.log_count += 1
        runs = start_many.insert(starts, SYSTEM)
        LogLine.objects.bulk_create(
            LogLine(run=runs[run_id], level="warning", message=line)
            for run_id, line in lines.items()
        )
        for message, pks in failed.items():
            CronTrigger.objects.filter(pk__in=pks).update(error=message)
    return len(runs)


def _passed_of(triggers: Sequence[CronTrigger], now: datetime) -> dict[int, Passed]:
    """What `_passed` says of these triggers, by their keys.

    After an outage of days that takes a while. Those for which COUNTING_SECONDS don't suffice are
    left to the next round.
    """
    until = monotonic() + COUNTING_SECONDS
    passed: dict[int, Passed] = {}
    known: dict[tuple[str, str, datetime | None], Passed] = {}
    for trigger in triggers:
        times = trigger.expression, trigger.time_zone, trigger.next_at
        if times not in known:
            if known and monotonic() > until:
                continue
            known[times] = _passed(trigger, now)
        passed[trigger.pk] = known[times]
    return passed


def _move(
    due: Mapping[int, CronTrigger], passed: Mapping[int, Passed], now: datetime
) -> list[tuple[CronTrigger, int]]:
    """Move these triggers to their next times, unless another host has done that.

    Returns those that it moved, each with the number of missed due times.
    """
    unlocked = CronTrigger.objects.select_for_update(skip_locked=True)
    unmoved = unlocked.filter(pk__in=due, enabled=True).order_by("pk")
    groups: dict[Passed, list[CronTrigger]] = defaultdict(list)
    for pk, next_at in unmoved.values_list("pk", "next_at"):
        if next_at == due[pk].next_at:
            groups[passed[pk]].append(due[pk])
    moved = []
    for (missed, next_at), triggers in groups.items():
        CronTrigger.objects.filter(pk__in=[trigger.pk for trigger in triggers]).update(
            next_at=next_at, last_fired_at=now, missed=F("missed") + missed, error=""
        )
        moved += [(trigger, missed) for trigger in triggers]
    return moved


def _start_of(trigger: CronTrigger, missed: int) -> Start:
    graph = trigger.graph
    quota.require_room(graph.namespace)
    version = startable(graph, graph.current)
    options = RunOptions(metadata=_reason(trigger, missed))
    return prepare(graph, version, options, None, SYSTEM, "schedule")


# --- recurring reruns ----------------------------------------------------------------------------


def _fire_reruns(now: datetime) -> int:
    due = _due(RecurringRerun, now, "run")[:RERUNS]
    return sum(_fire_safely(_fire_rerun, [recurring], now, 0) for recurring in due)


def _fire_rerun(due: Sequence[RecurringRerun], now: datetime) -> int:
    """Rerun the run of one schedule. Returns how many runs were started.

    If no run can start, the schedule gets the error and waits for its next time.
    """
    recurring = due[0]
    missed, next_at = _passed(recurring, now)
    rows = RecurringRerun.objects.filter(pk=recurring.pk)
    with transaction.atomic():
        # The run is locked before its schedule, as a graph is.
        if not counters.lock([recurring.run_id], skip_locked=True):
            return 0
        unchanged = rows.filter(enabled=True, next_at=recurring.next_at)
        if not unchanged.update(
            next_at=next_at, last_fired_at=now, missed=F("missed") + missed, error=""
        ):
            return 0
        try:
            with transaction.atomic():
                run = _rerun(recurring, missed)
        except errors.StateManagerError as error:
            log.warning("schedule %s %s could not start a run: %s", recurring.pk, recurring, error)
            rows.update(error=str(error)[:MAX_ERROR_LENGTH])
            return 0
        if missed:
            line = _missed_line(recurring, missed)
            LogLine.objects.create(run=run, level="warning", message=line)
            Run.objects.filter(pk=run.pk).update(log_count=F("log_count") + 1)
    return 1


def _rerun(recurring: RecurringRerun, missed: int) -> Run:
    options = RerunOptions(
        inputs=recurring.inputs, newest=recurring.newest, schedule=_reason(recurring, missed)
    )
    run = rerun(recurring.run, SYSTEM, options)
    # It is a run of whoever asked for the schedule, as runs of their other calls are.
    run.username = username_of(recurring.author)
    Run.objects.filter(pk=run.pk).update(username=run.username)
    return run
