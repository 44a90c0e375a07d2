"""Namespaces, who belongs to them, and the keys of the API."""

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html

from graphs.admin.base import ReadOnly, SomeRelated, WithCaller
from graphs.auth import api_keys
from graphs.auth.callers import Caller
from graphs.definition.types import JsonObject
from graphs.models import (
    ApiKey,
    IdempotencyKey,
    Namespace,
    NamespaceMembership,
    UserTimeZone,
)
from graphs.models.querysets import ApiKeyQuerySet
from graphs.web.audited_admin import Audited
from graphs.web.page_guard import caller_of

Account = get_user_model()


@admin.register(Namespace)
class NamespaceAdmin(Audited):
    list_display = ("name", "created_at")
    search_fields = ("name__any_case",)

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> tuple[str, ...]:
        return ("name", "created_at") if obj else ("created_at",)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # workers may use its name, and every process caches its id


@admin.register(NamespaceMembership)
class NamespaceMembershipAdmin(Audited):
    list_display = ("namespace", "user", "group", "role")
    list_filter = ("role", ("namespace", SomeRelated))
    search_fields = ("namespace__name", f"user__{Account.USERNAME_FIELD}", "group__name")
    list_select_related = ("namespace", "user", "group")
    autocomplete_fields = ("namespace",)
    raw_id_fields = ("user", "group")

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """Users and groups are searched for where the project's own pages of them can do so."""
        pages: dict[str, type[Model]] = {"user": Account, "group": Group}
        searched = [
            name
            for name, model in pages.items()
            if self.admin_site.is_registered(model)
            and self.admin_site.get_model_admin(model).search_fields
        ]
        return (*super().get_autocomplete_fields(request), *searched)


class ApiKeyForm(forms.ModelForm):
    caller: Caller  # who makes the key

    def clean(self) -> JsonObject:
        cleaned = super().clean() or self.cleaned_data
        namespaces = cleaned.get("namespaces")
        if not cleaned.get("all_namespaces") and not namespaces:
            self.add_error("namespaces", "Choose at least one namespace, or allow all of them.")
        elif cleaned.get("scope"):
            granted = None
            if not cleaned.get("all_namespaces"):
                granted = [namespace.pk for namespace in namespaces or ()]
            if not self.caller.may_grant(cleaned["scope"], granted):
                self.add_error("scope", "A key can't do more than you may do yourself.")
        return cleaned


@admin.register(ApiKey)
class ApiKeyAdmin(WithCaller):
    form = ApiKeyForm
    list_display = (
        "name",
        "prefix",
        "scope",
        "all_namespaces",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    )
    list_filter = ("scope", "all_namespaces")
    search_fields = ("name__any_case", "prefix__any_case")
    autocomplete_fields = ("namespaces",)
    fields = ("name", "scope", "all_namespaces", "namespaces", "per_minute", "expires_at")
    actions = ("revoke",)

    def save_model(
        self, request: HttpRequest, obj: ApiKey, form: forms.ModelForm, change: bool
    ) -> None:
        """The text of a new key is shown once, in the message after saving."""
        if change:
            super().save_model(request, obj, form, change)
            api_keys.forget()
            return
        text = api_keys.set_secret(obj)
        obj.created_by_id = request.user.pk
        super().save_model(request, obj, form, change)
        messages.warning(
            request, format_html("Copy the key now; it can't be shown again: <code>{}</code>", text)
        )

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: ApiKeyQuerySet) -> None:
        revoked = api_keys.revoke(queryset, caller_of(request))
        messages.success(request, f"Revoked keys: {revoked}.")


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnly):
    list_display = ("key", "caller", "status", "created_at")
    search_fields = ("key__exact",)
    ordering = ("-id",)
    exclude = ("answer",)


@admin.register(UserTimeZone)
class UserTimeZoneAdmin(ReadOnly):
    """Users choose their zone on the page of their account."""

    list_display = ("user", "name")
