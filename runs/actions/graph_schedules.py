"""The schedules of graphs: adding, pausing, changing and deleting them, and starting a run now.

`runs.actions.schedules` starts the runs that are due.
"""

from django.db import IntegrityError, transaction

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.models import CronTrigger, Graph
from runs.actions.due_times import first_time, reschedule
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import AuditEntry, Run

MAX_SCHEDULES = 100  # of a graph
CHANGING = (
    "enabled", "expression", "time_zone", "next_at", "last_fired_at", "missed", "error",
)  # fmt: skip


def add(
    graph: Graph, caller: Caller, expression: str, time_zone: str = "UTC", enabled: bool = True
) -> CronTrigger:
    """Start the graph at each due time from now on.

    Raises Forbidden without the right, Malformed for what is no schedule, and Conflict if the graph
    has this schedule already or as many as it may have.
    """
    caller.require("start", graph.namespace_id)
    schedule = CronTrigger(
        graph=graph,
        expression=expression,
        time_zone=time_zone,
        enabled=enabled,
        next_at=first_time(expression, time_zone),
    )
    with transaction.atomic():
        _lock(graph)
        if graph.triggers.count() >= MAX_SCHEDULES:
            raise errors.Conflict(
                f"A graph has at most {MAX_SCHEDULES} schedules; delete one first."
            )
        _store(schedule, caller, "add_schedule")
    return schedule


def change(
    schedule: CronTrigger,
    caller: Caller,
    enabled: bool | None = None,
    expression: str | None = None,
    time_zone: str | None = None,
) -> CronTrigger:
    """Pause a schedule, resume it, or give it other times. Raises what `add` raises."""
    caller.require("start", schedule.graph.namespace_id)
    with transaction.atomic():
        _lock_schedule(schedule)
        reschedule(schedule, enabled, expression, time_zone)
        _store(schedule, caller, "change_schedule")
    return schedule


def remove(schedule: CronTrigger, caller: Caller) -> None:
    """Start the graph no more; its runs stay. Raises Forbidden without the right."""
    caller.require("start", schedule.graph.namespace_id)
    with transaction.atomic():
        _lock_schedule(schedule)
        _record(schedule, caller, "delete_schedule")
        schedule.delete()


def start_now(schedule: CronTrigger, caller: Caller) -> Run:
    """Start a run as the schedule does, which keeps its next time. Raises what `start_run` does."""
    options = RunOptions(metadata={"trigger": str(schedule), "by": caller.label})
    return start_run(schedule.graph, options, caller=caller, trigger=Run.Trigger.SCHEDULE)


def _lock(graph: Graph) -> None:
    """Lock the graph, as its schedules do before they fire. Raises NotFound if it is gone."""
    if not list(Graph.objects.lock(graph.pk).values("pk")):
        raise errors.NotFound(f"The graph {graph.name!r} was deleted at this moment.")


def _lock_schedule(schedule: CronTrigger) -> None:
    """Lock its graph, and read the row again. Raises NotFound if it is gone."""
    _lock(schedule.graph)
    try:
        schedule.refresh_from_db(fields=CHANGING)
    except CronTrigger.DoesNotExist:
        raise errors.NotFound("This schedule was deleted.") from None


def _store(schedule: CronTrigger, caller: Caller, action: str) -> None:
    try:
        with transaction.atomic():
            schedule.save()
            _record(schedule, caller, action)
    except IntegrityError:
        raise errors.Conflict("The graph has this schedule already.") from None


def _record(schedule: CronTrigger, caller: Caller, action: str) -> None:
    paused = "" if schedule.enabled else ", paused"
    graph = schedule.graph
    detail = f"{graph.namespace.name}/{graph.name} {schedule}{paused}"
    AuditEntry.objects.record_global(caller, action, detail, graph.namespace_id)
