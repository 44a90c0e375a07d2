"""Datasets on pages: uploading, looking into their tables, seeing where they are used."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors, names
from graphs.editor.home import startable_namespaces
from graphs.models import Dataset, Namespace
from graphs.services import datasets
from graphs.web import file_preview
from graphs.web.fields import FilesField
from graphs.web.page_guard import caller_of, in_admin, staff_page

DATASETS, USES = 50, 10


class UploadForm(forms.Form):
    """Files that become the tables of a dataset; one of the same name gets these instead of its own."""

    namespace = forms.ModelChoiceField(queryset=Namespace.objects.none(), empty_label=None)
    name = forms.CharField(max_length=200)
    upload = FilesField(
        label="Files",
        help_text=".csv, .jsonl and .ndjson files, or a .zip of them. Each becomes a table.",
    )
    encoding = forms.CharField(
        initial="utf-8", max_length=40, help_text="Of the files, such as utf-8 or latin-1."
    )

    def __init__(self, caller: Caller, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["namespace"].queryset = startable_namespaces(caller)  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        try:
            return names.checked("dataset", self.cleaned_data["name"])
        except errors.Malformed as error:
            raise forms.ValidationError(str(error)) from None


@require_http_methods(["GET", "POST"])
@staff_page()
def dataset_list(request: HttpRequest) -> HttpResponse:
    """The datasets that the user sees; a POST uploads one."""
    caller = caller_of(request)
    form = UploadForm(caller, *((request.POST, request.FILES) if request.method == "POST" else ()))
    if form.is_bound and form.is_valid() and (made := _uploaded(request, form, caller)):
        answer = redirect("flow_dataset", made.pk)
        return (
            HttpResponse(headers={"HX-Redirect": answer["Location"]})
            if request.headers.get("HX-Request")
            else answer
        )
    found = (
        Dataset.objects.visible_to(caller)
        .select_related("namespace")
        .annotate(count=Count("tables"), total=Sum("tables__size"), lines=Sum("tables__rows"))
    )
    page = Paginator(found.order_by("namespace__name", "name"), DATASETS).get_page(
        request.GET.get("page")
    )
    context = in_admin(
        request, "Datasets", page=page, form=form, may_upload=startable_namespaces(caller).exists()
    )
    if request.headers.get("HX-Request"):
        return render(request, "flow/_upload.html", context)
    return render(request, "flow/datasets.html", context, status=422 if form.is_bound else 200)


def _uploaded(request: HttpRequest, form: UploadForm, caller: Caller) -> Dataset | None:
    asked = form.cleaned_data
    try:
        caller.require("start", asked["namespace"].pk)
        sources = [datasets.Source(file.name, file) for file in asked["upload"]]
        made = datasets.load(
            asked["namespace"],
            asked["name"],
            sources,
            asked["encoding"],
            f"uploaded by {caller.label}",
        )
    except errors.StateManagerError as error:
        for problem in error.extra.get("errors") or [str(error)]:
            form.add_error("upload" if error.extra.get("errors") else None, problem)
        return None
    messages.success(request, f"{made.name} was uploaded.")
    return made


@require_GET
@staff_page("payloads")
def dataset_page(request: HttpRequest, pk: int) -> HttpResponse:
    """One dataset: its tables, a page of one of them, and the runs and templates that use it."""
    caller = caller_of(request)
    dataset = get_object_or_404(Dataset.objects.visible_to(caller).with_tables(), pk=pk)
    if not caller.can("payloads", dataset.namespace_id):
        raise Http404
    tables = list(dataset.tables.all())
    table = next(
        (each for each in tables if each.name == request.GET.get("table")),
        tables[0] if tables else None,
    )
    shown = None
    if table:
        try:
            shown = file_preview.preview(
                table.file,
                f"{table.name}.{table.format}",
                file_preview.page_of(request.GET.get("page", "")),
                table.columns,
            )
        except errors.NotFound as error:
            shown = file_preview.Preview(said=str(error))
    runs = dataset.runs.visible_to(caller).select_related("graph", "namespace")
    context = {
        "dataset": dataset, "tables": tables, "table": table, "preview": shown, "runs": runs.order_by("-pk")[:USES], "count": runs[:1001].count(),
        "templates": dataset.templates.all()[:USES], "may_change": caller.can("start", dataset.namespace_id),
        "here": f"?table={table.name}" if table else "",
    }  # fmt: skip
    return render(request, "flow/dataset.html", in_admin(request, dataset.name, **context))


@require_POST
@staff_page("start")
def delete_dataset(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a dataset with its files; runs that used it stay."""
    caller = caller_of(request)
    dataset = get_object_or_404(Dataset.objects.visible_to(caller), pk=pk)
    try:
        caller.require("start", dataset.namespace_id)
        datasets.delete(dataset)
    except errors.StateManagerError as error:
        messages.error(request, str(error))
        return redirect("flow_dataset", pk)
    messages.success(request, f"{dataset.name} was deleted; runs that used it stay.")
    return redirect("flow_datasets")
