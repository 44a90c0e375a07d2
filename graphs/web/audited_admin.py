"""Pages of models whose forms and actions leave audit entries."""

import json
from contextlib import nullcontext
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import transaction
from django.db.models import ForeignKey, Model, QuerySet
from django.http import HttpRequest, HttpResponse

from graphs.auth import acts
from graphs.models import Namespace
from graphs.web.page_guard import caller_of

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
            acts.record(caller_of(request), "admin_action", None, detail)
        return response

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """An action on the chosen rows is done with its audit entries, or not at all."""
        with transaction.atomic() if request.method == "POST" else nullcontext():
            return super().changelist_view(request, extra_context)


def _record(request: HttpRequest, action: str, obj: Model, message: Message = "") -> None:
    """Record a change. The message names the changed fields, never their values."""
    if isinstance(message, list):
        message = LogEntry(change_message=json.dumps(message)).get_change_message()
    graph = getattr(obj, "graph", None)  # secrets and schedules belong to one
    parts = [obj._meta.verbose_name, graph, obj]
    name = " ".join(str(part) for part in parts if part)
    detail = f"{name}: {message}" if message else name
    acts.record(caller_of(request), action, _namespace(graph or obj), detail)


def _namespace(obj: Model) -> int | None:
    return obj.pk if isinstance(obj, Namespace) else getattr(obj, "namespace_id", None)
