"""Namespaces, keys, nodes, graphs and datasets in the Django admin."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from graphs.auth import api_keys
from graphs.auth.callers import PERMISSIONS, Caller
from graphs.definition import cron, errors, names
from graphs.definition.types import JsonObject
from graphs.models import (
    ApiKey,
    CronTrigger,
    Dataset,
    DatasetTable,
    Graph,
    GraphVersion,
    IdempotencyKey,
    Namespace,
    NamespaceMembership,
    RegisteredNode,
    Secret,
    clock,
)
from graphs.models.querysets import ApiKeyQuerySet
from graphs.services import datasets, publish, secrets
from graphs.services.dataset_files import Source
from graphs.web.fields import FilesField, delimiter_field, encoding_field, reading_of
from graphs.web.page_guard import caller_of
from graphs.web.pickers import MAX_CHOICES


class SomeRelated(admin.RelatedFieldListFilter):
    """A filter with the first rows of a related table. The search finds what the others have."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        rows = field.related_model._default_manager.order_by("pk")[:MAX_CHOICES]
        return [(str(row.pk), str(row)) for row in rows]


class FilteredByShown(admin.ModelAdmin):
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


@admin.register(Namespace)
class NamespaceAdmin(admin.ModelAdmin):
    list_display = ("name", "created_at")
    search_fields = ("name__any_case",)

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> tuple[str, ...]:
        return ("name", "created_at") if obj else ("created_at",)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # workers may use its name, and every process caches its id


@admin.register(NamespaceMembership)
class NamespaceMembershipAdmin(admin.ModelAdmin):
    list_display = ("namespace", "user", "group", "role")
    list_filter = ("role", ("namespace", SomeRelated))
    search_fields = ("namespace__name", "user__username", "group__name")
    list_select_related = ("namespace", "user", "group")
    autocomplete_fields = ("namespace", "user", "group")


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


@admin.register(RegisteredNode)
class RegisteredNodeAdmin(ReadOnly):
    list_display = ("name", "namespace", "executor", "description")
    list_filter = ("executor", ("namespace", SomeRelated))
    search_fields = ("name__any_case", "namespace__name__any_case")


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnly):
    list_display = ("key", "caller", "status", "created_at")
    search_fields = ("key__exact",)
    ordering = ("-id",)
    exclude = ("answer",)


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


class DatasetForm(forms.ModelForm):
    """Loads the uploaded files during validation, so that their problems are errors of the form."""

    caller: Caller  # who uploads them
    upload = FilesField(
        required=False,
        help_text=(
            ".csv, .jsonl and .ndjson files, or a .zip of them. "
            "They replace all tables of the dataset."
        ),
    )
    encoding = encoding_field()
    delimiter = delimiter_field()

    class Meta:
        model = Dataset
        fields = ("namespace", "name")

    def clean(self) -> JsonObject:
        cleaned = super().clean() or self.cleaned_data
        if not cleaned.get("upload") and self.instance.pk is None:
            self.add_error("upload", "A dataset needs at least one file.")
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        files = self.cleaned_data.get("upload")
        if self.errors or not files:
            return
        try:
            dataset = self._load(files)
        except errors.StateManagerError as error:
            for problem in error.extra.get("errors") or [str(error)]:
                self.add_error("upload", problem)
        else:
            # The row exists now, so saving the form must update it.
            self.instance.pk = dataset.pk
            self.instance._state.adding = False

    def _load(self, files: list[UploadedFile]) -> Dataset:
        return datasets.load(
            self.cleaned_data.get("namespace", self.instance.namespace),
            self.cleaned_data.get("name", self.instance.name),
            [Source(file.name or "", file) for file in files],
            reading_of(self.cleaned_data),
            "uploaded in the admin",
            self.caller,
        )


class TableInline(ReadOnlyInline):
    model = DatasetTable
    fk_name = "dataset"
    fields = ("name", "format", "rows", "size", "checksum")
    readonly_fields = fields
    show_change_link = False


@admin.register(Dataset)
class DatasetAdmin(WithCaller):
    form = DatasetForm
    list_display = ("name", "namespace", "id", "source", "created_at")
    list_filter = (("namespace", SomeRelated),)
    autocomplete_fields = ("namespace",)
    search_fields = ("name__any_case", "namespace__name__any_case")
    inlines = (TableInline,)

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> tuple[str, ...]:
        return ("namespace", "name") if obj else ()

    def delete_model(self, request: HttpRequest, obj: Dataset) -> None:
        datasets.delete(obj, caller_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Dataset]) -> None:
        for dataset in queryset:
            self.delete_model(request, dataset)


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
class CronTriggerAdmin(admin.ModelAdmin):
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
