"""The kept counts of runs, counted anew: finding those that drifted from their states, and writing them right."""

from collections.abc import Iterator
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Q

from runs import ledger, statuses
from runs.ledger import Ledger
from runs.models import LogLine, Run, State
from runs.tally import BAD, DONE, KNOWN

CHUNK = 2000
_WORDS = {
    "pending_count": statuses.UNFINISHED,
    "success_count": (statuses.SUCCESS, statuses.PRUNED),
    "errored_count": statuses.FAILED_STATES,
    "retried_count": (statuses.RETRY_CREATED,),
    "cancelled_count": (statuses.CANCELLED,),
}
_WAITS = "s.status = 'CREATED' AND s.waiting_for IS NOT NULL AND s.due_at IS NULL"


def _statement() -> str:
    """Runs of the engine within a range of ids whose counts are not what their states give: one statement, so one moment."""
    counted = {name: f"count(*) FILTER (WHERE s.status IN ({', '.join(map(repr, words))}))" for name, words in _WORDS.items()}
    counted["waiting_count"] = f"count(*) FILTER (WHERE {_WAITS})"
    differ = " OR ".join(f"{count} <> r.{name}" for name, count in counted.items())
    ended = ", ".join(map(repr, statuses.ENDED_RUNS))
    return f"""
        SELECT r.id FROM runs_run r LEFT JOIN runs_state s ON s.run_id = r.id
        WHERE r.version_id IS NOT NULL AND r.id > %s AND r.id <= %s GROUP BY r.id
        HAVING {differ} OR (r.status IN ({ended})) <> ({counted["pending_count"]} = 0)
            OR r.log_count <> (SELECT count(*) FROM runs_logline l WHERE l.run_id = r.id)
        ORDER BY r.id
    """


def drifted() -> Iterator[int]:
    """The runs whose books don't agree with their rows."""
    statement, first = _statement(), 0
    last = Run.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    with connection.cursor() as cursor:
        while first < last:
            cursor.execute(statement, [first, first + CHUNK])
            yield from [row[0] for row in cursor.fetchall()]
            first += CHUNK


def recount(pk: int) -> None:
    """Write the books of a run as its rows give them, under its lock. A run that ended with unfinished states goes on; one without any ends."""
    with transaction.atomic():
        run = Run.objects.select_related("version").filter(pk=pk).first()
        book = ledger.lock([pk], {pk: run.version.plan} if run and run.version else {}).get(pk)
        if run is None or book is None:
            return
        _count(book)
        if not book.open and book.pending_count:
            book.status, book.held, book.stopping = statuses.RUNNING, False, False
            Run.objects.filter(pk=pk).update(archived_at=None)
            State.objects.filter(run=pk, status=statuses.CREATED, held=True).update(held=False)
        book.close()
        ledger.store([book])


def _count(book: Ledger) -> None:
    book.tally, found = {}, dict.fromkeys(_WORDS, 0)
    rows: Any = State.objects.filter(run=book.pk).values_list("identifier", "status").annotate(count=Count("pk")).order_by("identifier")
    for identifier, status, count in rows:
        for name, words in _WORDS.items():
            found[name] += count if status in words else 0
        if status != statuses.RETRY_CREATED:
            book.count(identifier, KNOWN, count)
            book.count(identifier, DONE, count if status in _WORDS["success_count"] else 0)
            book.count(identifier, BAD, count if status in statuses.FAILED_STATES else 0)
    for name, count in found.items():
        setattr(book, name, count)
    waiting = Q(status=statuses.CREATED, waiting_for__isnull=False, due_at=None)
    book.waiting_count = State.objects.filter(waiting, run=book.pk).count()
    book.log_count = LogLine.objects.filter(run=book.pk).count()
