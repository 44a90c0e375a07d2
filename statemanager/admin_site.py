"""The admin, whose forms and actions leave audit entries, whatever they change."""

import json
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from axes.handlers.proxy import AxesProxyHandler
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import transaction
from django.db.models import ForeignKey, Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from graphs.models import Namespace
from graphs.web.page_guard import caller_of
from runs.models import AuditEntry
from statemanager import logins
from statemanager.second_factor import LoginForm

Message = list[dict[str, Any]] | str  # what the admin says about a change


class Audited(admin.ModelAdmin):
    """Writes an audit entry beside each entry of the admin's own log.

    That log is deleted with the account that it is about; audit entries stay.
    """

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """What the query of the page sets, without related rows that are named by no key."""
        initial = super().get_changeform_initial_data(request)
        return {name: value for name, value in initial.items() if self._may_be(name, value)}

    def _may_be(self, name: str, value: Any) -> bool:
        try:
            field = self.opts.get_field(name)
            if isinstance(field, ForeignKey):
                field.target_field.to_python(value)
        except (FieldDoesNotExist, ValidationError):
            return False
        return True

    def log_addition(self, request: HttpRequest, obj: Model, message: Message) -> LogEntry:
        _record(request, "admin_add", obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Message) -> LogEntry:
        _record(request, "admin_change", obj, message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Model]) -> list[LogEntry]:
        for obj in queryset:
            _record(request, "admin_delete", obj)
        return super().log_deletions(request, queryset)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Model], *args: Any, **options: Any
    ) -> HttpResponse | None:
        """Record every action, also those that the admin's own log doesn't know."""
        response = super().response_action(request, queryset, *args, **options)
        action = next(filter(None, request.POST.getlist("action")), "")
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if chosen and action in self.get_actions(request) and action != "delete_selected":
            detail = f"{action}: {self.opts.verbose_name} {', '.join(chosen)}"
            AuditEntry.objects.record_global(caller_of(request), "admin_action", detail)
        return response

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """An action on the chosen rows is done with its audit entries, or not at all."""
        with transaction.atomic() if request.method == "POST" else nullcontext():
            return super().changelist_view(request, extra_context)


class AuditedSite(admin.AdminSite):
    """Makes every page of a model an audited one, those of other apps, too."""

    login_form = LoginForm
    login_template = "admin/sign_in.html"
    enable_nav_sidebar = False  # `runs.manager.navigation` takes its place

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[admin.ModelAdmin] | None = None,
        **options: Any,
    ) -> None:
        admin_class = admin_class or admin.ModelAdmin
        audited = type(admin_class.__name__, (Audited, admin_class), {})
        super().register(model_or_iterable, audited, **options)

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """The page on which people change their own passwords.

        A wrong old password counts as a failed login: somebody may have found an open session.
        """
        if request.method != "POST":
            return super().password_change(request, extra_context)
        credentials = {"username": request.user.get_username()}
        if not AxesProxyHandler.is_allowed(request, credentials):
            request.axes_credentials = credentials  # type: ignore[attr-defined]
            return logins.locked_out(request, None, credentials)  # type: ignore[return-value]
        with transaction.atomic():
            response = super().password_change(request, extra_context)
            if response.status_code == 302:
                AuditEntry.objects.record_global(caller_of(request), "password", "changed")
        if response.status_code == 200 and _is_wrong_password(response):
            user_login_failed.send(sender=__name__, credentials=credentials, request=request)
        return response


def _is_wrong_password(response: TemplateResponse) -> bool:
    form = (response.context_data or {})["form"]
    return bool(form.has_error("old_password", "password_incorrect"))


def _record(request: HttpRequest, action: str, obj: Model, message: Message = "") -> None:
    """Record a change. The message names the changed fields, never their values."""
    if isinstance(message, list):
        message = LogEntry(change_message=json.dumps(message)).get_change_message()
    graph = getattr(obj, "graph", None)  # secrets and schedules belong to one
    parts = [obj._meta.verbose_name, graph, obj]
    name = " ".join(str(part) for part in parts if part)
    detail = f"{name}: {message}" if message else name
    AuditEntry.objects.record_global(caller_of(request), action, detail, _namespace(graph or obj))


def _namespace(obj: Model) -> int | None:
    return obj.pk if isinstance(obj, Namespace) else getattr(obj, "namespace_id", None)
