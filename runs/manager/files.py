"""A file that a run made, on a page."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from graphs.definition import errors
from graphs.web import file_preview
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.manager.lookups import run_for


@require_GET
@staff_page("payloads")
def run_file(request: HttpRequest, pk: int, artifact: int) -> HttpResponse:
    """A file that a run made, shown as table, text, or list of what is in it."""
    run = run_for(request, pk)
    if not caller_of(request).can("payloads", run.namespace_id):
        raise Http404
    file, entry = get_object_or_404(run.artifacts, pk=artifact), request.GET.get("entry", "")
    try:
        shown = file_preview.preview(
            file.file, _named(file), file_preview.page_of(request.GET.get("page", "")), entry=entry
        )
    except errors.NotFound as error:
        shown = file_preview.Preview(message=str(error))
    context = {
        "run": run,
        "file": file,
        "shown": shown,
        "entry": entry,
        "download": reverse("artifact-detail", args=[run.run_id, file.pk]),
        "here": f"?entry={entry}" if entry else "?",
    }
    return render(request, "flow/file.html", in_admin(request, entry or file.name, **context))


def _named(file: Any) -> str:
    """The file's name with its suffix; a table between nodes has it in the storage only."""
    return str(file.name) if "." in file.name else f"{file.name}.{file.file.rpartition('.')[2]}"
