"""The quota of a namespace: how many bytes its runs may store in all.

The bytes of a run are counted as it goes (`Run.stored_bytes`). Their sum is read when a run starts,
and at most every SECONDS, because it takes longer the more runs there are. Runs that have started
go on: each of them has a limit of its own (MAX_RUN_BYTES).
"""

from django.db.models import Sum

from graphs.definition import errors
from graphs.models import Namespace
from graphs.web import ttl_cache
from runs.models import Run

SECONDS = 10.0


def stored_bytes(namespace: Namespace) -> int:
    """The bytes that the runs of a namespace store, as of some seconds ago."""
    runs = Run.objects.filter(namespace=namespace)
    return ttl_cache.cached(
        ("stored bytes", namespace.pk),
        lambda: int(runs.aggregate(total=Sum("stored_bytes"))["total"] or 0),
        seconds=SECONDS,
    )


def problem(namespace: Namespace) -> str:
    """Why no run may start in the namespace; "" if its runs store less than they may."""
    limit = namespace.max_stored_bytes
    if limit is None:
        return ""
    stored = stored_bytes(namespace)
    if stored < limit:
        return ""
    return (
        f"The runs of namespace {namespace.name} store {stored:,} bytes, and {limit:,} are "
        "allowed. Delete old runs, or ask an administrator for a higher quota."
    )


def require_room(namespace: Namespace) -> None:
    """Raises TooLarge if no run may start in the namespace."""
    message = problem(namespace)
    if message:
        raise errors.TooLarge(message)
