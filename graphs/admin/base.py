"""What the admin's pages of both apps are made of."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from graphs.auth.callers import PERMISSIONS
from graphs.web.audited_admin import Audited
from graphs.web.page_guard import caller_of
from graphs.web.pickers import MAX_CHOICES


class SomeRelated(admin.RelatedFieldListFilter):
    """A filter with the first rows of a related table. The search finds what the others have."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        rows = field.related_model._default_manager.order_by("pk")[:MAX_CHOICES]
        return [(str(row.pk), str(row)) for row in rows]


class FilteredByShown(Audited):
    """A page whose rows are filtered only by what it shows of them."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Whether the query string may filter by this, as `?error__startswith=…` does.

        Django allows every column of the table, also those that the page doesn't show. The number
        of matches of one guess after the other would spell them.
        """
        filters = [item[0] if isinstance(item, tuple) else item for item in self.list_filter]
        names = {str(item).partition("__")[0] for item in filters}
        names |= {"id", "pk", *map(str, self.get_list_display(request))}
        if lookup.partition("__")[0] not in names:
            return False
        return super().lookup_allowed(lookup, value, request)


class ReadOnly(FilteredByShown):
    """Rows that can't be changed in the admin: the engine, the API and the commands write them.

    `payloads` are columns with what runs work on. Only staff who may see that see them.
    """

    payloads: ClassVar[tuple[str, ...]] = ()

    def get_exclude(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return (*(super().get_exclude(request, obj) or ()), *self._hidden(request))

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        hidden = self._hidden(request)
        return [column for column in super().get_list_display(request) if column not in hidden]

    def _hidden(self, request: HttpRequest) -> tuple[str, ...]:
        return () if request.user.has_perm(PERMISSIONS["payloads"]) else self.payloads

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class WithCaller(FilteredByShown):
    """Its form knows who sends it, as `caller`."""

    def get_form(
        self, request: HttpRequest, obj: Model | None = None, change: bool = False, **kwargs: object
    ) -> type[forms.ModelForm]:
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"caller": caller_of(request)})


class ReadOnlyInline(admin.TabularInline):
    related: ClassVar[tuple[str, ...]] = ()  # what the rows' texts and columns need
    extra = 0
    can_delete = False
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The newest rows. A formset filters its queryset, so it must not be cut."""
        rows = super().get_queryset(request).select_related(*self.related)
        parent = request.resolver_match.kwargs.get("object_id") if request.resolver_match else None
        if not (parent and parent.isdigit()):
            return rows
        of_parent = rows.filter(**{self.fk_name or "": parent}).order_by("-pk")
        return rows.filter(pk__in=of_parent.values("pk")[:MAX_CHOICES])

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
