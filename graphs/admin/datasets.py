"""Datasets, whose files are uploaded in the admin."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect

from graphs.admin.base import ReadOnlyInline, SomeRelated, WithCaller
from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.types import JsonObject
from graphs.models import (
    Dataset,
    DatasetTable,
)
from graphs.services import datasets
from graphs.services.dataset_files import Source
from graphs.web.fields import FilesField, delimiter_field, encoding_field, reading_of
from graphs.web.page_guard import caller_of


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

    @method_decorator(csrf_protect)
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Django's page without its transaction: the form stores files, and then loads them in a
        transaction of its own.
        """
        return self._changeform_view(  # type: ignore[attr-defined]
            request, object_id, form_url, extra_context
        )

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> tuple[str, ...]:
        return ("namespace", "name") if obj else ()

    def delete_model(self, request: HttpRequest, obj: Dataset) -> None:
        datasets.delete(obj, caller_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Dataset]) -> None:
        for dataset in queryset:
            self.delete_model(request, dataset)
