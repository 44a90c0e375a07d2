"""Notification rules and their messages in the Django admin."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from graphs.admin.base import FilteredByShown, ReadOnly, SomeRelated
from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of
from runs.actions import notification_rules, notifications
from runs.models import NotificationEvent, NotificationMessage, NotificationRule


class RuleForm(forms.ModelForm):
    caller: Caller

    class Meta:
        model = NotificationRule
        fields = (
            "name", "namespace", "graph", "on_failed", "on_partial", "on_cancelled",
            "on_completed", "on_waiting", "channel", "target", "every_seconds", "enabled",
        )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if self.errors:
            return values
        try:
            rule = NotificationRule(pk=self.instance.pk, **values)
            notification_rules.require(self.caller, rule.namespace_id)
            notification_rules.check(rule)
            if rule.pk is None:
                notification_rules.require_room(rule.namespace_id)
        except errors.StateManagerError as error:
            raise forms.ValidationError(message_of(error)) from None
        return values


@admin.register(NotificationRule)
class NotificationRuleAdmin(FilteredByShown):
    form = RuleForm
    list_display = ("name", "namespace", "graph", "channel", "target", "enabled", "last_sent_at")
    list_filter = ("channel", "enabled", ("namespace", SomeRelated))
    list_select_related = ("namespace", "graph__namespace")
    search_fields = ("name__any_case", "target__any_case")
    raw_id_fields = ("namespace", "graph")
    actions = ("send_test", "new_secret")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm]:
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"caller": caller_of(request)})

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_change(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_change(request, obj)

    def _may_change(self, request: HttpRequest, rule: NotificationRule | None) -> bool:
        """Whether the user may change this rule, or any at all."""
        caller = caller_of(request)
        if rule is None:
            return caller.may("start") and caller.may("payloads")
        return notification_rules.may_change(caller, rule.namespace_id)

    def save_model(
        self, request: HttpRequest, obj: NotificationRule, form: forms.ModelForm, change: bool
    ) -> None:
        secret = notification_rules.save(obj, caller_of(request))
        self._show(request, obj, secret)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """The rules alone: their messages and events, which may be many, go with them."""
        names = [str(rule) for rule in objs]
        return names, {str(NotificationRule._meta.verbose_name_plural): len(names)}, set(), []

    def delete_model(self, request: HttpRequest, obj: NotificationRule) -> None:
        notification_rules.remove(obj, caller_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[NotificationRule]) -> None:
        for rule in self._changeable(request, queryset):
            self.delete_model(request, rule)

    def _changeable(
        self, request: HttpRequest, queryset: QuerySet[NotificationRule]
    ) -> list[NotificationRule]:
        """Those that the user may change; a message names the others."""
        may = {rule: self._may_change(request, rule) for rule in queryset}
        for rule in (rule for rule, allowed in may.items() if not allowed):
            messages.error(request, f"You may not change the rule {rule}.")
        return [rule for rule, allowed in may.items() if allowed]

    @admin.action(description="Send a test message", permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[NotificationRule]) -> None:
        for rule in self._changeable(request, queryset):
            try:
                notification_rules.send_test(rule, caller_of(request))
            except errors.StateManagerError as error:
                messages.error(request, message_of(error))
            else:
                text = f"A test of {rule} is on its way. The list of messages shows its status."
                messages.success(request, text)

    @admin.action(description="Make a new secret for the webhook", permissions=["change"])
    def new_secret(self, request: HttpRequest, queryset: QuerySet[NotificationRule]) -> None:
        webhooks = queryset.filter(channel=NotificationRule.Channel.WEBHOOK)
        for rule in self._changeable(request, webhooks):
            self._show(request, rule, notification_rules.renew_secret(rule, caller_of(request)))

    def _show(self, request: HttpRequest, rule: NotificationRule, secret: str) -> None:
        if secret:
            text = f"The secret of {rule} is {secret}. Keep it: it is not shown again."
            messages.warning(request, text)


@admin.register(NotificationMessage)
class NotificationMessageAdmin(ReadOnly):
    list_display = (
        "rule", "status", "events_count", "attempts", "is_test", "created_at", "due_at",
        "delivered_at", "error",
    )  # fmt: skip
    list_filter = ("status",)
    list_select_related = ("rule",)
    ordering = ("-created_at",)
    actions = ("send_again",)
    show_full_result_count = False

    def has_send_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("statemanager_runs.change_notificationrule"))

    @admin.action(description="Send the failed ones again", permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[NotificationMessage]) -> None:
        caller = caller_of(request)
        chosen = [
            message
            for message in queryset.select_related("rule")
            if notification_rules.may_change(caller, message.rule.namespace_id)
        ]
        count = notifications.replay(chosen)
        word = "message" if count == 1 else "messages"
        messages.success(request, f"{count} failed {word} will be sent again.")


@admin.register(NotificationEvent)
class NotificationEventAdmin(ReadOnly):
    list_display = ("rule", "event", "run", "at", "message")
    list_select_related = ("rule", "run", "message__rule")
    ordering = ("-id",)
    show_full_result_count = False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ("rule", "run", "event", "at", "message")
