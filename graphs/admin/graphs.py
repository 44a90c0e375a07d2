"""Nodes, graphs with their versions, secrets and schedules."""

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from graphs.admin.base import FilteredByShown, ReadOnly, ReadOnlyInline, SomeRelated
from graphs.definition import cron, errors, names
from graphs.models import (
    CronTrigger,
    Graph,
    GraphVersion,
    RegisteredNode,
    Secret,
    clock,
)
from graphs.services import publish, secrets
from graphs.web.audited_admin import Audited
from graphs.web.page_guard import caller_of
from graphs.web.pickers import MAX_CHOICES


@admin.register(RegisteredNode)
class RegisteredNodeAdmin(ReadOnly):
    list_display = ("name", "namespace", "executor", "description")
    list_filter = ("executor", ("namespace", SomeRelated))
    search_fields = ("name__any_case", "namespace__name__any_case")


class VersionInline(ReadOnlyInline):
    model = GraphVersion
    fk_name = "graph"
    related = ("graph__namespace", "created_by")
    verbose_name_plural = f"the newest {MAX_CHOICES} versions"
    fields = ("number", "checksum", "note", "created_at", "created_by")
    readonly_fields = fields


@admin.register(Graph)
class GraphAdmin(ReadOnly):
    list_display = ("name", "namespace", "current_number", "updated_at")
    list_filter = (("namespace", SomeRelated),)
    list_select_related = ("namespace", "current")
    search_fields = ("name__any_case", "namespace__name__any_case")
    inlines = (VersionInline,)

    @admin.display(description="version")
    def current_number(self, graph: Graph) -> int | None:
        return graph.current.number if graph.current else None


@admin.register(GraphVersion)
class GraphVersionAdmin(ReadOnly):
    payloads = ("definition",)
    list_display = ("graph", "number", "is_current", "is_valid", "created_at", "created_by", "note")
    list_select_related = ("graph__namespace", "created_by")
    search_fields = ("graph__name__any_case", "checksum__any_case")
    actions = ("make_current",)

    @admin.display(boolean=True, description="current")
    def is_current(self, version: GraphVersion) -> bool:
        return version.graph.current_id == version.pk

    @admin.display(boolean=True, description="valid")
    def is_valid(self, version: GraphVersion) -> bool:
        return not version.problems

    def has_publish_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("statemanager_graphs.change_graph"))

    @admin.action(description="Make the selected version the current one", permissions=["publish"])
    def make_current(self, request: HttpRequest, queryset: QuerySet[GraphVersion]) -> None:
        if queryset.count() != 1:
            messages.error(request, "Select exactly one version.")
            return
        version = queryset.get()
        graph = publish.roll_back(version.graph, version.number, caller_of(request))
        messages.success(
            request,
            f"New runs of {graph} use version {version.number}. Runs that have already started "
            "keep their version.",
        )


class SecretForm(forms.ModelForm):
    """Sets the value of a secret, which is never shown."""

    value = forms.CharField(
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        max_length=100_000,
        strip=False,
    )

    class Meta:
        model = Secret
        fields = ("graph", "name")

    def clean_name(self) -> str:
        try:
            return names.checked("secret", self.cleaned_data["name"])
        except errors.Malformed as error:
            raise forms.ValidationError(str(error)) from None


@admin.register(Secret)
class SecretAdmin(FilteredByShown):
    form = SecretForm
    raw_id_fields = ("graph",)
    list_display = ("name", "graph", "updated_at")
    list_filter = (("graph__namespace", SomeRelated),)
    list_select_related = ("graph__namespace",)
    search_fields = ("name__any_case", "graph__name__any_case", "graph__namespace__name__any_case")

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> tuple[str, ...]:
        return ("graph", "name") if obj else ()

    def save_model(
        self, request: HttpRequest, obj: Secret, form: forms.ModelForm, change: bool
    ) -> None:
        obj.former = obj.token
        obj.token = secrets.encrypt(form.cleaned_data["value"])
        obj.updated_at = timezone.now()
        obj.by_template = False
        super().save_model(request, obj, form, change)
        publish.recheck(obj.graph)

    def delete_model(self, request: HttpRequest, obj: Secret) -> None:
        super().delete_model(request, obj)
        publish.recheck(obj.graph)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Secret]) -> None:
        for secret in queryset:
            self.delete_model(request, secret)


@admin.register(CronTrigger)
class CronTriggerAdmin(Audited):
    list_display = (
        "graph",
        "expression",
        "time_zone",
        "enabled",
        "next_at",
        "last_fired_at",
        "missed",
        "error",
    )
    list_filter = ("enabled", ("graph__namespace", SomeRelated))
    list_select_related = ("graph__namespace",)
    search_fields = (
        "graph__name__any_case",
        "graph__namespace__name__any_case",
        "expression__any_case",
    )
    raw_id_fields = ("graph",)
    fields = (
        "graph",
        "expression",
        "time_zone",
        "enabled",
        "next_at",
        "last_fired_at",
        "missed",
        "error",
    )
    readonly_fields = ("next_at", "last_fired_at", "missed", "error")

    def save_model(
        self, request: HttpRequest, obj: CronTrigger, form: forms.ModelForm, change: bool
    ) -> None:
        """Compute the next time from now, so that a schedule doesn't fire for times it missed."""
        if not change or form.changed_data:
            obj.next_at = cron.next_time(obj.expression, obj.time_zone, clock.now())
        super().save_model(request, obj, form, change)
