"""The pages of datasets: the list, uploading, and one dataset with its tables and its uses."""

from collections.abc import Sequence

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.editor.named_form import NamedForm, lacks_namespace, startable_namespaces
from graphs.models import Dataset, DatasetTable
from graphs.services import dataset_preview, datasets
from graphs.services.dataset_files import Source
from graphs.services.dataset_preview import TablePreview
from graphs.web import file_preview
from graphs.web.fields import FilesField, delimiter_field, encoding_field, reading_of
from graphs.web.page_guard import accepts_uploads, caller_of, in_admin, staff_page

DATASETS = 50  # datasets on a page
USES = 10  # runs and templates listed as uses of a dataset
MAX_COUNT = 1000  # runs that are counted


class UploadForm(NamedForm):
    """Files that become the tables of a dataset. They replace the tables of an existing one."""

    kind = "dataset"

    upload = FilesField(
        label="Files",
        help_text=".csv, .jsonl and .ndjson files, or a .zip of them. Each becomes a table.",
    )
    encoding = encoding_field()
    delimiter = delimiter_field()


@accepts_uploads
@require_http_methods(["GET", "POST"])
@staff_page()
def dataset_list(request: HttpRequest) -> HttpResponse:
    """The datasets that the user may see. A POST uploads one, or shows what it would become.

    htmx gets only the form, the preview, or the address of the new dataset.
    """
    caller = caller_of(request)
    by_script = bool(request.headers.get("HX-Request"))
    form = UploadForm(caller)
    previews: list[TablePreview] = []
    if request.method == "POST" and "preview" in request.POST:
        form, previews = _preview_upload(request, caller)
        if by_script and previews:
            context = {"previews": previews, "by_script": True}
            return render(request, "flow/_dataset_preview.html", context)
    elif request.method == "POST":
        form = UploadForm(caller, request.POST, request.FILES)
        dataset = _upload(request, form, caller) if form.is_valid() else None
        if dataset:
            url = reverse("flow_dataset", args=[dataset.pk])
            return HttpResponse(headers={"HX-Redirect": url}) if by_script else redirect(url)

    page = Paginator(_datasets(caller), DATASETS).get_page(request.GET.get("page"))
    may_upload = startable_namespaces(caller).exists()
    context = in_admin(
        request,
        "Datasets",
        page=page,
        form=form,
        may_upload=may_upload,
        lacks_namespace=lacks_namespace(),
        previews=previews,
    )
    if by_script:
        return render(request, "flow/_upload.html", context)
    status = 422 if form.is_bound and not previews else 200
    return render(request, "flow/datasets.html", context, status=status)


def _preview_upload(request: HttpRequest, caller: Caller) -> tuple[UploadForm, list[TablePreview]]:
    """The form, and what its files would become: nothing if the form is wrong.

    A name isn't needed yet.
    """
    form = UploadForm(caller, request.POST, request.FILES)
    if not form.is_valid() and set(form.errors) - {"name"}:
        return form, []
    caller.require("start", form.cleaned_data["namespace"].pk)
    files = [Source(file.name, file) for file in form.cleaned_data["upload"]]
    found = dataset_preview.previews(files, reading_of(form.cleaned_data))
    return UploadForm(caller, initial=request.POST.dict()), found


def _datasets(caller: Caller) -> QuerySet[Dataset]:
    datasets = Dataset.objects.visible_to(caller).select_related("namespace")
    datasets = datasets.annotate(
        count=Count("tables"), total=Sum("tables__size"), lines=Sum("tables__rows")
    )
    return datasets.order_by("namespace__name", "name")


def _upload(request: HttpRequest, form: UploadForm, caller: Caller) -> Dataset | None:
    """Store the files as a dataset; None if they can't be read, with errors in the form."""
    fields = form.cleaned_data
    source = f"uploaded by {caller.label}"
    try:
        caller.require("start", fields["namespace"].pk)
        files = [Source(file.name, file) for file in fields["upload"]]
        dataset = datasets.load(
            fields["namespace"], fields["name"], files, reading_of(fields), source, caller
        )
    except errors.StateManagerError as error:
        problems = error.extra.get("errors")
        for problem in problems or [str(error)]:
            form.add_error("upload" if problems else None, problem)
        return None
    messages.success(request, f"{dataset.name} was uploaded.")
    return dataset


@require_GET
@staff_page("payloads")
def dataset_page(request: HttpRequest, pk: int) -> HttpResponse:
    """A dataset: a page of one of its tables, and the runs and templates that use it."""
    caller = caller_of(request)
    dataset = get_object_or_404(Dataset.objects.visible_to(caller).with_tables(), pk=pk)
    if not caller.can("payloads", dataset.namespace_id):
        raise Http404
    tables = list(dataset.tables.all())
    table = _chosen_table(tables, request.GET.get("table"))
    page = file_preview.page_of(request.GET.get("page", ""))
    runs = dataset.runs.visible_to(caller).select_related("graph", "namespace")
    context = in_admin(
        request,
        dataset.name,
        dataset=dataset,
        tables=tables,
        table=table,
        preview=_preview(table, page) if table else None,
        here=f"?table={table.name}" if table else "",
        runs=runs.order_by("-pk")[:USES],
        count=runs[: MAX_COUNT + 1].count(),
        templates=dataset.templates.all()[:USES],
        may_change=caller.can("start", dataset.namespace_id),
    )
    return render(request, "flow/dataset.html", context)


def _chosen_table(tables: Sequence[DatasetTable], name: str | None) -> DatasetTable | None:
    """The table of this name, else the first one; None if there are none."""
    for table in tables:
        if table.name == name:
            return table
    return tables[0] if tables else None


def _preview(table: DatasetTable, page: int) -> file_preview.Preview:
    try:
        return file_preview.preview(table.file, f"{table.name}.{table.format}", page, table.columns)
    except errors.NotFound as error:
        return file_preview.Preview(message=str(error))


@require_POST
@staff_page("start")
def delete_dataset(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a dataset with its files. Runs that used it remain."""
    caller = caller_of(request)
    dataset = get_object_or_404(Dataset.objects.visible_to(caller), pk=pk)
    try:
        caller.require("start", dataset.namespace_id)
        datasets.delete(dataset, caller)
    except errors.StateManagerError as error:
        messages.error(request, str(error))
        return redirect("flow_dataset", pk)
    messages.success(request, f"{dataset.name} was deleted. Runs that used it remain.")
    return redirect("flow_datasets")
