"""Bulk operations on pages: what would happen, the question, the progress, and what came of each run."""

import csv
import uuid
from collections.abc import Iterator
from typing import Any

from django.contrib import messages
from django.core.files.storage import default_storage
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    QueryDict,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from graphs.auth.callers import RIGHT_LABELS
from graphs.definition import errors
from graphs.web.links import back_to
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.actions import bulk, bulk_runner, export
from runs.core import statuses
from runs.manager.forms import labels_of
from runs.manager.run_list import RunPage
from runs.models import BulkOperation

SHOWN = 20
TYPED = 100  # from so many on the number must be typed
RESULTS = 100
TITLES = {
    "delete": "Delete", "archive": "Archive", "unarchive": "Bring back from the archive", "rerun": "Rerun", "retry": "Retry what failed",
    "cancel": "Cancel", "pause": "Pause", "resume": "Resume", "label": "Label", "set_status": "Set the status of", "export": "Export",
}  # fmt: skip


@require_POST
@staff_page()
def ask(request: HttpRequest, action: str) -> HttpResponse:
    """Say what the action would do to the ticked runs, or to all that match; once that is confirmed, store the operation and begin."""
    caller, back = caller_of(request), back_to(request, "run_manager")
    query = _query(request, back)
    if not query.get("pk", True):
        messages.warning(request, "Choose at least one run.")
        return redirect(back)
    try:
        seen = bulk.preview(action, query, caller)
    except errors.Forbidden:
        return HttpResponse(f"You may not {RIGHT_LABELS[bulk.ACTIONS[action].right]}.", status=403)
    except errors.StateManagerError as error:
        messages.error(request, f"{error}")
        return redirect(back)
    if not seen.total:
        messages.warning(
            request,
            "The chosen runs are gone already." if "pk" in query else "No run matches any more.",
        )
        return redirect(back)
    said = "confirmed" in request.POST and _objection(request, action, seen)
    if "confirmed" in request.POST and not said:
        return _begin(request, action, query, back)
    return _question(request, action, query, seen, back, said or "")


def _query(request: HttpRequest, back: str) -> dict[str, Any]:
    """The ticked runs, or the filters of the list that the form came from."""
    if "all" in request.POST:
        return RunPage(caller_of(request), QueryDict(back.partition("?")[2])).filters
    ticked = [
        int(text)
        for text in request.POST.getlist("run")
        if text.isascii() and text.isdigit() and len(text) < 19
    ]
    return {"pk": ticked[: bulk.MAX_CHOSEN]}


def _objection(request: HttpRequest, action: str, seen: bulk.Preview) -> str:
    total = seen.total
    if "all" in request.POST and request.POST.get("shown") != f"{total}-{seen.bound}":
        return f"Meanwhile other runs match than those that you were shown; now there are {total:,}. Look again."
    if (
        action == "delete"
        and total > TYPED
        and request.POST.get("typed", "").replace(",", "").strip() != str(total)
    ):
        return f"Type {total} to confirm that so many runs are to be deleted."
    if action == "set_status" and not request.POST.get("reason", "").strip():
        return "Setting a status by hand needs a reason."
    if action == "label" and not any(
        request.POST.get(name, "").strip() for name in ("add", "remove")
    ):
        return "Say which labels to add or to remove."
    return ""


def _question(
    request: HttpRequest,
    action: str,
    query: dict[str, Any],
    seen: bulk.Preview,
    back: str,
    said: str,
) -> HttpResponse:
    some = bulk.targets(query, caller_of(request)).order_by("-pk")[:SHOWN]
    context = {
        "action": action, "seen": seen, "some": some, "more": max(0, seen.total - SHOWN), "back": back, "said": said, "everything": "all" in request.POST,
        "ticked": query.get("pk", []), "fits": seen.total - seen.unfit, "ends": statuses.ENDED_RUNS, "typed": action == "delete" and seen.total > TYPED,
        "asked": request.POST.get("asked") or uuid.uuid4(), "shown": f"{seen.total}-{seen.bound}", "given": request.POST,
    }  # fmt: skip
    title = f"{TITLES[action]} {seen.total:,} run{'s' if seen.total != 1 else ''}?"
    return render(
        request,
        "run_manager/bulk.html",
        in_admin(request, title, **context),
        status=422 if said else 200,
    )


def _begin(request: HttpRequest, action: str, query: dict[str, Any], back: str) -> HttpResponse:
    post = request.POST
    params: dict[str, Any] = {
        name: post[name] for name in ("status", "version", "format", "active") if post.get(name)
    }
    try:
        if action == "label":
            params |= {
                "add": labels_of(post.get("add", "")),
                "remove": post.get("remove", "").split(),
            }
        operation = bulk.ask(
            action,
            query,
            caller_of(request),
            params,
            post.get("reason", "").strip(),
            _uuid(post.get("asked", "")),
        )
    except errors.StateManagerError as error:
        messages.error(request, str(error))
        return redirect(back)
    bulk_runner.run_inline(operation)
    if operation.over and not operation.failed and action != "export":
        plural = "s were" if operation.done != 1 else " was"
        messages.success(request, f"{operation.done} run{plural} {bulk.ACTIONS[action].done}.")
        return redirect(back)
    return redirect("run_manager_operation", operation.pk)


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _visible(request: HttpRequest) -> QuerySet[BulkOperation]:
    return bulk.seen_by(caller_of(request))


@require_GET
@staff_page()
def operation_list(request: HttpRequest) -> HttpResponse:
    """The operations, newest first."""
    page = Paginator(_visible(request).order_by("-pk"), 50).get_page(request.GET.get("page"))
    return render(
        request, "run_manager/operations.html", in_admin(request, "Bulk operations", page=page)
    )


@require_GET
@staff_page()
def operation(request: HttpRequest, pk: int) -> HttpResponse:
    """How far an operation is, and what it could not do; for htmx the part that changes, 286 once it is over."""
    found = get_object_or_404(_visible(request), pk=pk)
    results = Paginator(found.results.order_by("done", "pk"), RESULTS).get_page(
        request.GET.get("page")
    )
    context = {
        "operation": found,
        "done_word": bulk.ACTIONS[found.action].done,
        "results": results,
        "title_word": TITLES[found.action],
    }
    context["left"] = max(0, found.total - found.done - found.failed)
    if request.headers.get("HX-Request"):
        return render(
            request, "run_manager/_operation.html", context, status=286 if found.over else 200
        )
    return render(
        request,
        "run_manager/operation.html",
        in_admin(request, f"{TITLES[found.action]} {found.total:,} runs", **context),
    )


@require_POST
@staff_page()
def steer_operation(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Stop an operation, or do again what it could not do."""
    found = get_object_or_404(_visible(request), pk=pk)
    try:
        if verb == "stop":
            bulk.stop(found, caller_of(request))
        else:
            found = bulk_runner.run_inline(bulk.retry(found, caller_of(request)))
    except errors.StateManagerError as error:
        messages.error(request, str(error))
    return redirect("run_manager_operation", found.pk)


@require_GET
@staff_page()
def report(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """What became of each run, as CSV."""
    found = get_object_or_404(_visible(request), pk=pk)
    lines = _report(found)
    return StreamingHttpResponse(
        lines,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="operation-{pk}.csv"'},
    )


def _report(found: BulkOperation) -> Iterator[str]:
    writer = csv.writer(export.Echo())
    columns = ("run_id", "name", "done", "code", "reason", "created_run_id")
    yield writer.writerow([*columns[:-1], "made"])
    for row in found.results.order_by("pk").values_list(*columns).iterator(chunk_size=1000):
        yield writer.writerow([export.harmless(value) for value in row])


@require_GET
@staff_page("export")
def exported_file(request: HttpRequest, pk: int) -> FileResponse:
    """What an export wrote."""
    found = get_object_or_404(_visible(request), pk=pk)
    if not found.file or not default_storage.exists(found.file):
        raise Http404("The file is gone; exports are kept for a day.")
    return FileResponse(
        default_storage.open(found.file, "rb"),
        as_attachment=True,
        filename=found.file.rpartition("/")[2],
    )
