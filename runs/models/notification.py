"""Notifications about runs: the rules, the outbox and the messages."""

import uuid
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from graphs.models import Graph, Namespace
from graphs.models.querysets import InNamespaces
from runs.models.run import Run

EVENTS = ("failed", "partial", "cancelled", "completed", "waiting")


class NotificationRule(models.Model):
    """Which events of runs are sent to a webhook or by mail: all, or those of a namespace or graph.

    `target` is the URL of a webhook, or addresses separated by commas. At most one message is sent
    in `every_seconds`, with everything that has happened since the last one.
    """

    class Channel(models.TextChoices):
        WEBHOOK = "webhook"
        MAIL = "mail"

    name = models.CharField(max_length=100)
    # Without constraints: the release before this one can delete namespaces and graphs.
    namespace = models.ForeignKey(
        Namespace,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        db_constraint=False,
    )
    graph = models.ForeignKey(
        Graph,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        db_constraint=False,
    )
    on_failed = models.BooleanField("runs that failed", default=True)
    on_partial = models.BooleanField("runs that succeeded in part", default=True)
    on_cancelled = models.BooleanField("runs that were cancelled", default=False)
    on_completed = models.BooleanField("runs that completed", default=False)
    on_waiting = models.BooleanField("runs that ask a person", default=False)
    channel = models.CharField(max_length=10, choices=Channel.choices, default=Channel.WEBHOOK)
    target = models.CharField(
        max_length=500, help_text="The URL of a webhook, or addresses separated by commas."
    )
    token = models.TextField(blank=True, editable=False)  # the encrypted secret of the webhook
    every_seconds = models.PositiveIntegerField(
        default=60, help_text="At most one message in so many seconds."
    )
    enabled = models.BooleanField(default=True)
    created_by = models.CharField(max_length=150, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_sent_at = models.DateTimeField(null=True, editable=False)
    next_at = models.DateTimeField(
        null=True, editable=False, help_text="Before this time it sends no further message."
    )

    objects: Any = InNamespaces.as_manager()

    class Meta:
        verbose_name = "notification rule"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["namespace", "name"], name="sm_notification_rule_name"),
            models.UniqueConstraint(
                fields=["name"],
                condition=Q(namespace=None),
                name="sm_notification_rule_of_all",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def events(self) -> list[str]:
        """The events that it sends."""
        return [event for event in EVENTS if getattr(self, f"on_{event}")]


class NotificationMessage(models.Model):
    """A message of a rule about some events. Receivers know it by its id, which retries keep."""

    class Status(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    rule = models.ForeignKey(NotificationRule, on_delete=models.CASCADE, related_name="messages")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.WAITING)
    events_count = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    is_test = models.BooleanField(default=False)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    due_at = models.DateTimeField(default=timezone.now, db_default=Now())
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "notification message"
        indexes: ClassVar = [
            models.Index(
                fields=["due_at"], condition=Q(status="waiting"), name="sm_notification_due"
            )
        ]

    def __str__(self) -> str:
        return f"{self.rule}: {self.events_count} events, {self.status}"


class NotificationEvent(models.Model):
    """The outbox: what happened to a run, for a rule, until it is delivered.

    Written in the transaction that changes the run. It belongs to the run and goes with it.
    """

    # Without constraints, workers that end runs never wait for somebody who changes a rule.
    rule = models.ForeignKey(
        NotificationRule, on_delete=models.CASCADE, related_name="+", db_constraint=False
    )
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="notification_events", db_constraint=False
    )
    event = models.CharField(max_length=10, choices=[(event, event) for event in EVENTS])
    at = models.DateTimeField(default=timezone.now, db_default=Now())
    message = models.ForeignKey(
        NotificationMessage,
        null=True,
        on_delete=models.SET_NULL,
        related_name="events",
        db_constraint=False,
    )

    class Meta:
        verbose_name = "notification event"
        indexes: ClassVar = [
            models.Index(
                fields=["rule", "id"], condition=Q(message=None), name="sm_notification_pending"
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} of run {self.run_id}"
