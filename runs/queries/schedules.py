"""The schedules of graphs as lists show them."""

from django.db.models import QuerySet

from graphs.auth.callers import Caller
from graphs.models import CronTrigger


def schedules_of(caller: Caller) -> QuerySet[CronTrigger]:
    """The schedules of the graphs that the caller sees."""
    rows = CronTrigger.objects.select_related("graph__namespace")
    if caller.namespaces is None:
        return rows
    return rows.filter(graph__namespace__in=caller.namespaces)
