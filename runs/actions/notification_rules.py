"""Notification rules: saving, testing and deleting them."""

import base64
import secrets as randomness
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors
from graphs.models import Namespace
from graphs.services import secrets
from runs.core import sql
from runs.engine import wakeup
from runs.models import AuditEntry, NotificationMessage, NotificationRule

MAX_RULES = 100  # in a namespace, and as many for all of them
MAX_ADDRESSES = 20
MAX_EVERY_SECONDS = 86_400
SECRET_PREFIX = "whsec_"  # noqa: S105 -- as Standard Webhooks writes secrets
SECRET_BYTES = 32
CHOSEN = (
    "name", "namespace", "graph", "on_failed", "on_partial", "on_cancelled", "on_completed",
    "on_waiting", "channel", "target", "every_seconds", "enabled", "token", "next_at",
)  # fmt: skip


def require(caller: Caller, namespace_id: int | None) -> None:
    """Raise Forbidden if the caller may not change the rules of a namespace, or those of all.

    A rule sends the errors of runs, so it takes the right to see payloads, too.
    """
    if namespace_id is not None:
        caller.require("start", namespace_id)
        caller.require("payloads", namespace_id)
    elif caller.namespaces is not None or not caller.may("admin"):
        raise errors.Forbidden(f"{caller.label} may not set rules for all namespaces.")


def may_change(caller: Caller, namespace_id: int | None) -> bool:
    """Whether the caller may change the rules of a namespace, or those of all."""
    try:
        require(caller, namespace_id)
    except errors.Forbidden:
        return False
    return True


def save(rule: NotificationRule, caller: Caller) -> str:
    """Store a new or changed rule. Returns the secret of a webhook that got one, else "".

    Raises Forbidden without the rights, Malformed for values that a rule can't have, and Conflict
    if the name is taken or the namespace has as many rules as it may have.
    """
    require(caller, rule.namespace_id)
    check(rule)
    rule.created_by = rule.created_by or caller.label[:150]
    with transaction.atomic():
        if rule.pk:
            stored = _locked(rule)
            require(caller, stored.namespace_id)
            _keep_what_changed(rule, stored)
            changed: tuple[str, ...] | None = CHOSEN
            action = "change_rule"
        else:
            require_room(rule.namespace_id)
            changed, action = None, "add_rule"
        secret = ""
        if rule.channel == NotificationRule.Channel.WEBHOOK and not rule.token:
            secret = _new_secret(rule)
        try:
            with transaction.atomic():
                rule.save(update_fields=changed)
        except IntegrityError:
            raise errors.Conflict(f"There is a rule named {rule.name!r} already.") from None
        _record(rule, caller, action)
    return secret


def _locked(rule: NotificationRule) -> NotificationRule:
    """The stored rule, locked. Raises NotFound if it was deleted."""
    locked = NotificationRule.objects.select_for_update(of=("self",))
    stored: NotificationRule | None = locked.filter(pk=rule.pk).first()
    if stored is None:
        raise errors.NotFound("This notification rule was deleted.")
    return stored


def _keep_what_changed(rule: NotificationRule, stored: NotificationRule) -> None:
    """Take over what others have written since the rule was read."""
    rule.token = stored.token
    rule.last_sent_at = stored.last_sent_at
    rule.next_at = stored.next_at
    if rule.every_seconds != stored.every_seconds and stored.last_sent_at:
        rule.next_at = stored.last_sent_at + timedelta(seconds=rule.every_seconds)


def renew_secret(rule: NotificationRule, caller: Caller) -> str:
    """Give the rule another secret to sign with, which is returned this once."""
    require(caller, rule.namespace_id)
    with transaction.atomic():
        _locked(rule)
        secret = _new_secret(rule)
        rule.save(update_fields=["token"])
        _record(rule, caller, "change_rule")
    return secret


def check(rule: NotificationRule) -> None:
    """Raise Malformed for values that a rule can't have."""
    rule.target = check_target(rule.channel, rule.target)
    if not rule.name.strip():
        raise errors.Malformed("A rule needs a name.")
    if not rule.events:
        raise errors.Malformed("Choose at least one event.")
    if rule.every_seconds > MAX_EVERY_SECONDS:
        raise errors.Malformed(f"every_seconds is at most {MAX_EVERY_SECONDS:,}.")
    if rule.graph and rule.graph.namespace_id != rule.namespace_id:
        raise errors.Malformed("A rule about a graph is a rule of the graph's namespace.")


def check_target(channel: str, target: str) -> str:
    """The target as it is stored. Raises Malformed for one that the channel can't reach."""
    target = target.strip()
    if channel == NotificationRule.Channel.WEBHOOK:
        if not _is_web_address(target):
            raise errors.Malformed("Enter an http or https URL as the target of a webhook.")
        return target
    addresses = [address.strip() for address in target.split(",") if address.strip()]
    if not 1 <= len(addresses) <= MAX_ADDRESSES:
        raise errors.Malformed(f"Enter 1 to {MAX_ADDRESSES} mail addresses, separated by commas.")
    for address in addresses:
        try:
            validate_email(address)
        except ValidationError:
            raise errors.Malformed(f"{address[:80]!r} is not a mail address.") from None
    return ", ".join(addresses)


def _is_web_address(target: str) -> bool:
    try:
        parts = urlsplit(target)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _new_secret(rule: NotificationRule) -> str:
    secret = SECRET_PREFIX + base64.b64encode(randomness.token_bytes(SECRET_BYTES)).decode()
    rule.token = secrets.encrypt(secret)
    return secret


def require_room(namespace_id: int | None) -> None:
    """Raise Conflict if the namespace has as many rules as it may have; lock it, in a transaction.

    The lock makes the limit exact.
    """
    with transaction.atomic():
        if namespace_id is not None:
            locked = Namespace.objects.select_for_update(no_key=True).filter(pk=namespace_id)
            list(locked.values("pk"))
        if NotificationRule.objects.filter(namespace=namespace_id).count() >= MAX_RULES:
            raise errors.Conflict(f"A namespace has at most {MAX_RULES} rules; delete one first.")


def remove(rule: NotificationRule, caller: Caller) -> None:
    """Delete a rule with the messages that it has not delivered. Raises Forbidden."""
    require(caller, rule.namespace_id)
    with transaction.atomic():
        _locked(rule)  # as senders lock it, before its messages and events
        _record(rule, caller, "delete_rule")
        rule.delete()


def send_test(rule: NotificationRule, caller: Caller) -> NotificationMessage:
    """Send a message about no run at all, to see whether it arrives.

    Raises Forbidden, and Conflict if the rule is disabled or another test is on its way.
    """
    require(caller, rule.namespace_id)
    with transaction.atomic():
        if not _locked(rule).enabled:
            raise errors.Conflict(f"The rule {rule.name!r} is disabled; enable it first.")
        if rule.messages.filter(is_test=True, status=NotificationMessage.Status.WAITING).exists():
            raise errors.Conflict(f"A test of {rule.name!r} is on its way already.")
        message: NotificationMessage = rule.messages.create(is_test=True, due_at=sql.clock())
        _record(rule, caller, "test_rule")
    wakeup.hint()
    return message


def disable(rule: NotificationRule) -> None:
    """Send no more messages of a rule whose receiver wants none."""
    with transaction.atomic():
        if NotificationRule.objects.filter(pk=rule.pk, enabled=True).update(enabled=False):
            _record(rule, SYSTEM, "change_rule")


def _record(rule: NotificationRule, caller: Caller, action: str) -> None:
    where: Any = rule.namespace.name if rule.namespace else "all namespaces"
    detail = f"{where}: {rule.name} ({rule.channel})"
    AuditEntry.objects.record_global(caller, action, detail, rule.namespace_id)
