"""The pages of bulk operations: the list, the progress, the results and exported files."""

from collections.abc import Iterator

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from graphs.definition import errors
from graphs.services.csv_files import CsvWriter, harmless
from graphs.web.downloads import attachment
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.actions import bulk, bulk_runner, export
from runs.manager.bulk import TITLES
from runs.models import AuditEntry, BulkOperation

OPERATIONS = 50  # operations on a page of the list
RESULTS = 100  # results on a page of an operation
REPORT_COLUMNS = ("run_id", "name", "done", "code", "reason", "created_run_id")


def _visible(request: HttpRequest) -> QuerySet[BulkOperation]:
    return bulk.seen_by(caller_of(request))


@require_GET
@staff_page()
def operation_list(request: HttpRequest) -> HttpResponse:
    """The operations that the user may see, newest first."""
    operations = Paginator(_visible(request).order_by("-pk"), OPERATIONS)
    context = in_admin(
        request, "Bulk operations", page=operations.get_page(request.GET.get("page"))
    )
    return render(request, "run_manager/operations.html", context)


@require_GET
@staff_page()
def operation_page(request: HttpRequest, pk: int) -> HttpResponse:
    """The progress of an operation and its results.

    htmx gets the part that changes, with status 286 once the operation is over: it stops polling.
    """
    operation = get_object_or_404(_visible(request), pk=pk)
    results = Paginator(operation.results.order_by("done", "pk"), RESULTS)
    context = {
        "operation": operation,
        "done_label": bulk.ACTIONS[operation.action].done,
        "results": results.get_page(request.GET.get("page")),
        "progress_label": _progress_label(operation),
    }
    if request.headers.get("HX-Request"):
        status = 286 if operation.over else 200
        return render(request, "run_manager/_operation.html", context, status=status)
    title = f"{TITLES[operation.action]} {operation.total:,} runs"
    return render(request, "run_manager/operation.html", in_admin(request, title, **context))


def _progress_label(operation: BulkOperation) -> str:
    done_label = bulk.ACTIONS[operation.action].done
    parts = [f"{operation.done:,} of {operation.total:,} {done_label}"]
    if operation.failed:
        parts.append(f"{operation.failed:,} failed")
    rest = operation.total - operation.done - operation.failed
    if rest > 0 and operation.status == BulkOperation.Status.STOPPED:
        parts.append(f"{rest:,} not processed")
    return ", ".join(parts)


@require_POST
@staff_page()
def act_on_operation(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Stop an operation, or retry the runs that it failed on as a new operation."""
    operation = get_object_or_404(_visible(request), pk=pk)
    try:
        if verb == "stop":
            bulk.stop(operation, caller_of(request))
        else:
            operation = bulk_runner.run_inline(bulk.retry(operation, caller_of(request)))
    except errors.StateManagerError as error:
        messages.error(request, str(error))
    return redirect("run_manager_operation", operation.pk)


@require_GET
@staff_page()
def report(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The result for each run, as CSV."""
    operation = get_object_or_404(_visible(request), pk=pk)
    _record_download(request, operation, f"the report of {operation}")
    return StreamingHttpResponse(
        _report_lines(operation),
        content_type="text/csv; charset=utf-8",
        headers=attachment(f"operation-{pk}.csv"),
    )


def _report_lines(operation: BulkOperation) -> Iterator[str]:
    writer = CsvWriter(REPORT_COLUMNS, export.LINE_END)
    yield writer.line(REPORT_COLUMNS)
    results = operation.results.order_by("pk").values_list(*REPORT_COLUMNS)
    for values in results.iterator(chunk_size=1000):
        yield writer.line(map(harmless, values))


@require_GET
@staff_page("export")
def exported_file(request: HttpRequest, pk: int) -> FileResponse:
    """The file that an export wrote."""
    operation = get_object_or_404(_visible(request), pk=pk)
    try:
        file = bulk_runner.exported_file(operation, caller_of(request))
    except errors.NotFound as error:
        raise Http404(str(error)) from None
    return FileResponse(file, as_attachment=True, filename=operation.file.rpartition("/")[2])


def _record_download(request: HttpRequest, operation: BulkOperation, detail: str) -> None:
    caller = caller_of(request).with_door("page", operation.pk)
    AuditEntry.objects.record_global(caller, "download", detail)
