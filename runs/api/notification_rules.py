"""Notification rules and their messages over REST."""

from urllib.parse import urlsplit

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.lookups import graph_of, namespace_for
from graphs.api.pagination import AfterPagination
from graphs.api.schema import REFUSALS
from graphs.api.viewsets import ViewSet
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.actions import notification_rules
from runs.api.lookups import without_nul
from runs.models import NotificationMessage, NotificationRule
from runs.models.notification import EVENTS

MAX_MESSAGES = 100  # newest ones that are shown of a rule


class RuleSerializer(serializers.Serializer):
    """Which events of runs are sent, and where. `namespace` is null for a rule of all namespaces.

    Callers who may not change the rule see only the host of its `target`.

    `secret` is the one that signs the messages of a webhook. It is shown once, in the answer that
    made it.
    """

    id = serializers.CharField()
    name = serializers.CharField()
    namespace = serializers.CharField(allow_null=True)
    graph_id = serializers.CharField(allow_null=True)
    events = serializers.ListField(child=serializers.ChoiceField(EVENTS))
    channel = serializers.ChoiceField(NotificationRule.Channel.values)
    target = serializers.CharField()
    every_seconds = serializers.IntegerField()
    enabled = serializers.BooleanField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    last_sent_at = serializers.DateTimeField(allow_null=True)
    secret = serializers.CharField(allow_null=True)

    def to_representation(self, rule: NotificationRule) -> JsonObject:
        """The context may hold the secret."""
        return {
            "id": str(rule.pk),
            "name": rule.name,
            "namespace": rule.namespace.name if rule.namespace else None,
            "graph_id": str(rule.graph_id) if rule.graph_id else None,
            "events": rule.events,
            "channel": rule.channel,
            "target": self._target(rule),
            "every_seconds": rule.every_seconds,
            "enabled": rule.enabled,
            "created_by": rule.created_by,
            "created_at": when(rule.created_at),
            "last_sent_at": when(rule.last_sent_at),
            "secret": self.context.get("secret") or None,
        }

    def _target(self, rule: NotificationRule) -> str:
        """The target, or its host alone: the address of a webhook may be a credential."""
        if notification_rules.may_change(self.context["caller"], rule.namespace_id):
            return rule.target
        if rule.channel == NotificationRule.Channel.MAIL:
            return "hidden"
        parts = urlsplit(rule.target)
        return f"{parts.scheme}://{parts.hostname}"


class RulesSerializer(serializers.Serializer):
    rules = RuleSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class RuleChangeSerializer(serializers.Serializer):
    """Members that are left out keep their values.

    `events` are failed, partial, cancelled, completed and waiting; `target` is the URL of a
    webhook, or mail addresses separated by commas.
    """

    name = serializers.CharField(max_length=100, required=False)
    events = serializers.ListField(child=serializers.ChoiceField(EVENTS), required=False)
    channel = serializers.ChoiceField(NotificationRule.Channel.values, required=False)
    target = serializers.CharField(max_length=500, required=False)
    every_seconds = serializers.IntegerField(
        min_value=0, max_value=notification_rules.MAX_EVERY_SECONDS, required=False
    )
    enabled = serializers.BooleanField(required=False)


class NewRuleSerializer(RuleChangeSerializer):
    """A rule of a namespace, or of one of its graphs. An admin who names neither makes a rule of
    all namespaces with `namespace` null.
    """

    name = serializers.CharField(max_length=100)
    target = serializers.CharField(max_length=500)
    namespace = serializers.CharField(max_length=100, required=False, allow_null=True)
    graph_id = serializers.IdField(required=False)


class MessageSerializer(serializers.Serializer):
    """A message of a rule. Receivers get its id as `webhook-id`, the same in each attempt."""

    id = serializers.CharField()
    status = serializers.ChoiceField(NotificationMessage.Status.values)
    test = serializers.BooleanField()
    events = serializers.IntegerField()
    attempts = serializers.IntegerField()
    error = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField()
    delivered_at = serializers.DateTimeField(allow_null=True)

    def to_representation(self, message: NotificationMessage) -> JsonObject:
        return {
            "id": str(message.pk),
            "status": message.status,
            "test": message.is_test,
            "events": message.events_count,
            "attempts": message.attempts,
            "error": message.error or None,
            "created_at": when(message.created_at),
            "due_at": when(message.due_at),
            "delivered_at": when(message.delivered_at),
        }


class MessagesSerializer(serializers.Serializer):
    messages = MessageSerializer(many=True)


class NotificationRuleViewSet(ViewSet):
    lookup_url_kwarg = "rule"
    pagination_class = AfterPagination
    scopes = {
        "list": "read",
        "retrieve": "read",
        "messages": "read",
        "create": "start",
        "partial_update": "start",
        "destroy": "start",
        "test": "start",
    }
    bodies = ("create", "partial_update")
    queries = {"list": ("namespace",)}

    def get_queryset(self) -> QuerySet[NotificationRule]:
        rules = NotificationRule.objects.visible_to(self.caller)
        return rules.select_related("namespace", "graph")

    def get_object(self) -> NotificationRule:
        text = self.kwargs["rule"]
        rule = self.get_queryset().filter(pk=parse_id(text) or 0).first()
        if rule is None:
            raise errors.NotFound(f"There is no notification rule {text[:50]!r}.")
        return rule

    @extend_schema(
        operation_id="notification_rules_list",
        parameters=[OpenApiParameter("namespace", str, description="Those of this namespace.")],
        responses={200: RulesSerializer, **REFUSALS},
    )
    def list(self, request: Request) -> Response:
        """The rules of the namespaces that the caller sees."""
        rules, name = self.get_queryset(), request.query_params.get("namespace")
        if name:
            rules = rules.filter(namespace__name=without_nul(name))
        return self.get_paginated_response(
            {"rules": RuleSerializer(self.page(rules), many=True, context=self._context()).data}
        )

    @extend_schema(
        operation_id="notification_rules_create",
        request=NewRuleSerializer,
        responses={201: RuleSerializer, **REFUSALS},
    )
    def create(self, request: Request) -> Response:
        """Send events of runs to a webhook or by mail."""
        data = self.validated(NewRuleSerializer)
        rule = NotificationRule(name=data.pop("name"))
        if "graph_id" in data:
            rule.graph = graph_of(self.caller, data.pop("graph_id"))
            rule.namespace = rule.graph.namespace
            _require_same(data.pop("namespace", rule.namespace.name), rule)
        elif "namespace" not in data or data["namespace"] is not None:
            rule.namespace = namespace_for(self.caller, data.pop("namespace", None), create=False)
            if rule.namespace.pk is None:
                raise errors.NotFound(f"There is no namespace {rule.namespace.name!r}.")
        data.pop("namespace", None)
        return self._save(rule, data, 201)

    @extend_schema(
        operation_id="notification_rules_read",
        responses={200: RuleSerializer, **REFUSALS},
    )
    def retrieve(self, request: Request, rule: str) -> Response:
        """One rule."""
        return Response(RuleSerializer(self.get_object(), context=self._context()).data)

    @extend_schema(
        operation_id="notification_rules_change",
        request=RuleChangeSerializer,
        responses={200: RuleSerializer, **REFUSALS},
    )
    def partial_update(self, request: Request, rule: str) -> Response:
        """Change a rule, or disable it."""
        return self._save(self.get_object(), self.validated(RuleChangeSerializer), 200)

    @extend_schema(operation_id="notification_rules_delete", responses={204: None, **REFUSALS})
    def destroy(self, request: Request, rule: str) -> Response:
        """Delete a rule with the messages that it has not delivered."""
        notification_rules.remove(self.get_object(), self.caller)
        return Response(status=204)

    @extend_schema(
        operation_id="notification_rules_test",
        request=None,
        responses={201: MessageSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def test(self, request: Request, rule: str) -> Response:
        """Send a test message, to see whether it arrives."""
        message = notification_rules.send_test(self.get_object(), self.caller)
        return Response(MessageSerializer(message).data, status=201)

    @extend_schema(
        operation_id="notification_rules_messages",
        responses={200: MessagesSerializer, **REFUSALS},
    )
    @action(detail=True)
    def messages(self, request: Request, rule: str) -> Response:
        """The newest messages of a rule, with their status."""
        newest = self.get_object().messages.order_by("-created_at")[:MAX_MESSAGES]
        return Response({"messages": MessageSerializer(newest, many=True).data})

    def _save(self, rule: NotificationRule, data: JsonObject, status: int) -> Response:
        events = data.pop("events", None)
        for event in EVENTS if events is not None else ():
            setattr(rule, f"on_{event}", event in events)
        for name, value in data.items():
            setattr(rule, name, value)
        secret = notification_rules.save(rule, self.caller)
        context = {**self._context(), "secret": secret}
        return Response(RuleSerializer(rule, context=context).data, status=status)

    def _context(self) -> JsonObject:
        return {"caller": self.caller}


def _require_same(namespace: str | None, rule: NotificationRule) -> None:
    if rule.namespace is None or namespace != rule.namespace.name:
        raise errors.Malformed("The graph is in another namespace.")
