"""Sending notifications about what happened to runs.

`runs.engine.notify` writes events to an outbox. Workers take those of a rule together as one
message, lease the message, and send it. A message that can't be delivered is tried again at growing
intervals. If its sender dies, it is sent again with the same id once the lease is over: it arrives
at least once, and receivers that remember the ids see it once.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from graphs.definition import redaction
from graphs.definition.types import JsonObject
from graphs.web.ttl_cache import cached
from runs.actions import channels, notification_rules
from runs.core import sql
from runs.core.failpoints import failpoint
from runs.engine.notify import RULES_SECONDS
from runs.models import NotificationEvent, NotificationMessage, NotificationRule

log = logging.getLogger(__name__)
TURN_SECONDS = 5.0
LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 10
FIRST_RETRY_SECONDS = 10.0
RETRY_FACTOR = 3.0
LONGEST_RETRY = timedelta(hours=6)
MAX_EVENTS = 10_000  # in one message
MAX_LISTED = 50  # of which it lists so many
MAX_ERROR = 500  # characters of a run's error
FORGOTTEN = 10_000  # messages that are deleted at once
KEPT = timedelta(days=30)  # messages, and events that were not delivered
WAITING = NotificationMessage.Status.WAITING


def waiting() -> bool:
    """Whether a message is to be sent now."""
    if not cached("notification rules", _are_rules, seconds=RULES_SECONDS):
        return False
    return _due().exists() or _rules_with_news().exists()


def _are_rules() -> bool:
    return NotificationRule.objects.filter(enabled=True).exists()


def deliver(seconds: float = TURN_SECONDS) -> bool:
    """Send what is to be sent now. Returns whether some is left after this time."""
    until = monotonic() + seconds
    while monotonic() < until:
        message = _take()
        if message is None:
            return False
        _send(message)
    return waiting()


def _due() -> QuerySet[NotificationMessage]:
    due = NotificationMessage.objects.filter(status=WAITING, due_at__lte=sql.clock())
    return due.filter(rule__enabled=True)


def _rules_with_news() -> QuerySet[NotificationRule]:
    """The rules with events in no message yet, whose next message may be sent now.

    While a message of a rule waits, its further events wait for the next one.
    """
    pending = NotificationEvent.objects.filter(rule=OuterRef("pk"), message=None)
    unsent = NotificationMessage.objects.filter(rule=OuterRef("pk"), status=WAITING, is_test=False)
    rules = NotificationRule.objects.filter(Exists(pending), ~Exists(unsent), enabled=True)
    return rules.filter(Q(next_at=None) | Q(next_at__lte=sql.clock()))


def _take() -> NotificationMessage | None:
    """Lease a message that is to be sent now, made of what is new if none is due."""
    with transaction.atomic():
        due = _due().select_for_update(of=("self",), skip_locked=True).order_by("due_at")
        message = due.select_related("rule").first() or _collected()
        if message is None:
            return None
        if message.attempts >= MAX_ATTEMPTS:  # its senders died or were too slow each time
            _end(message, NotificationMessage.Status.FAILED, message.error or "no sender ended")
            return message
        message.attempts += 1
        message.due_at = sql.clock() + LEASE
        message.save(update_fields=["attempts", "due_at"])
    return message


def _collected() -> NotificationMessage | None:
    """A new message with the events of a rule."""
    pks = list(_rules_with_news().values_list("pk", flat=True)[:20])
    locked = NotificationRule.objects.select_for_update(skip_locked=True, no_key=True)
    for pk in pks:
        rule = locked.filter(pk=pk).first()
        if rule is None or not _rules_with_news().filter(pk=pk).exists():
            continue
        events = NotificationEvent.objects.filter(rule=rule, message=None).order_by("pk")
        free = events.select_for_update(skip_locked=True, of=("self",))
        chosen = list(free.values_list("pk", flat=True)[:MAX_EVENTS])
        if not chosen:
            continue
        message: NotificationMessage = rule.messages.create(
            events_count=len(chosen), due_at=sql.clock()
        )
        NotificationEvent.objects.filter(pk__in=chosen).update(message=message)
        return message
    return None


# --- sending -------------------------------------------------------------------------------------


def _send(message: NotificationMessage) -> None:
    """Send a leased message, and record what came of it."""
    if message.status != WAITING:
        return
    failpoint("message-taken")
    body = body_of(message)
    if not body["count"] and not message.is_test:  # its runs were deleted
        _end(message, NotificationMessage.Status.DELIVERED)
        return
    try:
        channels.send(message, body)
    except channels.Gone as error:
        notification_rules.disable(message.rule)
        _fail(message, f"{error}; the rule was disabled")
    except channels.NotDelivered as error:
        _retry_or_fail(message, str(error))
    except Exception as error:  # a fault of a mail backend, say; the next attempt may succeed
        log.exception("message %s could not be sent", message.pk)
        _retry_or_fail(message, f"{type(error).__name__}: {error}")
    else:
        failpoint("message-sent")
        _delivered(message)


def body_of(message: NotificationMessage) -> JsonObject:
    """What a message says: how many events of each kind, and the first MAX_LISTED of them."""
    events = message.events.select_related("run__namespace", "run__graph").order_by("pk")
    counts: dict[str, int] = {}
    for event in message.events.values_list("event", flat=True):
        counts[event] = counts.get(event, 0) + 1
    return {
        "id": str(message.pk),
        "rule": message.rule.name,
        "test": message.is_test,
        "count": sum(counts.values()),
        "counts": counts,
        "events": [_event_json(event) for event in events[:MAX_LISTED]],
    }


def _event_json(event: NotificationEvent) -> JsonObject:
    run = event.run
    error = redaction.shown(run.error_message[:MAX_ERROR])
    return {
        "event": event.event,
        "at": event.at.isoformat(),
        "namespace": run.namespace.name,
        "graph": run.graph.name if run.graph else None,
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "error": error or None,
        "url": channels.url_of(run),
    }


def _delivered(message: NotificationMessage) -> None:
    """Record a delivery, also one that took longer than the lease."""
    with transaction.atomic():
        now = sql.clock()
        if not _end(message, NotificationMessage.Status.DELIVERED, at=now) or message.is_test:
            return
        rule = NotificationRule.objects.filter(pk=message.rule_id).first()
        if rule is not None:
            rule.last_sent_at = now
            rule.next_at = now + timedelta(seconds=rule.every_seconds)
            rule.save(update_fields=["last_sent_at", "next_at"])


def _fail(message: NotificationMessage, error: str) -> None:
    """Give a message up, unless its lease was lost and another sender has it."""
    _end(message, NotificationMessage.Status.FAILED, error, attempts=message.attempts)


def _end(
    message: NotificationMessage,
    status: str,
    error: str = "",
    at: datetime | None = None,
    **fence: int,
) -> bool:
    """Give a waiting message its final status. Events that were delivered are deleted."""
    with transaction.atomic():
        waiting = NotificationMessage.objects.filter(pk=message.pk, status=WAITING, **fence)
        if not waiting.update(status=status, error=error[:2000], delivered_at=at):
            return False
        message.status = status
        if status == NotificationMessage.Status.DELIVERED:
            NotificationEvent.objects.filter(message=message).delete()
    return True


def _retry_or_fail(message: NotificationMessage, error: str) -> None:
    if message.attempts >= (1 if message.is_test else MAX_ATTEMPTS):
        _fail(message, error)
        return
    delay = retry_delay(message.attempts)
    NotificationMessage.objects.filter(pk=message.pk, attempts=message.attempts).update(
        error=error[:2000], due_at=sql.clock() + delay
    )


def retry_delay(attempts: int) -> timedelta:
    """How long to wait after so many attempts: 10 s, 30 s, 90 s … up to 6 hours."""
    seconds = FIRST_RETRY_SECONDS * RETRY_FACTOR ** (attempts - 1)
    return min(timedelta(seconds=seconds), LONGEST_RETRY)


def replay(messages: Sequence[NotificationMessage]) -> int:
    """Send messages that failed once more. Returns how many were."""
    failed = NotificationMessage.objects.filter(
        pk__in=[message.pk for message in messages], status=NotificationMessage.Status.FAILED
    )
    return failed.update(status=WAITING, attempts=0, error="", due_at=sql.clock())


def forget_old() -> None:
    """Delete old messages, old events that were not delivered, and events without a rule."""
    oldest = sql.clock() - KEPT
    without_rule = ~Exists(NotificationRule.objects.filter(pk=OuterRef("rule")))
    # Events first: those of a message that is deleted would be sent again.
    NotificationEvent.objects.filter(Q(at__lt=oldest) | without_rule).delete()
    old = NotificationMessage.objects.filter(created_at__lt=oldest).exclude(status=WAITING)
    undelivered = Exists(NotificationEvent.objects.filter(message=OuterRef("pk")))
    pks = list(
        old.filter(~undelivered).order_by("created_at").values_list("pk", flat=True)[:FORGOTTEN]
    )
    NotificationMessage.objects.filter(pk__in=pks).delete()
