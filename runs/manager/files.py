"""Looking into a file that a run made."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from graphs.definition import errors
from graphs.web import file_preview
from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.manager.lookups import run_for
from runs.models import Artifact


@require_GET
@staff_page("payloads")
def run_file(request: HttpRequest, pk: int, artifact: int) -> HttpResponse:
    """A file of a run as a table or text; a zip file as the list of its entries.

    `?entry=name` shows an entry of a zip file.
    """
    run = run_for(request, pk)
    if not caller_of(request).can("payloads", run.namespace_id):
        raise Http404
    file = get_object_or_404(run.artifacts, pk=artifact)
    entry = request.GET.get("entry", "")
    page = file_preview.page_of(request.GET.get("page", ""))
    try:
        preview = file_preview.preview(file.file, _file_name(file), page, entry=entry)
    except errors.NotFound as error:
        preview = file_preview.Preview(message=str(error))
    context = in_admin(
        request,
        entry or file.name,
        run=run,
        file=file,
        preview=preview,
        entry=entry,
        download=reverse("artifact-detail", args=[run.run_id, file.pk]),
        here=f"?entry={entry}" if entry else "?",
    )
    return render(request, "flow/file.html", context)


def _file_name(file: Artifact) -> str:
    """The name with its suffix. A table between nodes has a suffix only in the storage."""
    if "." in file.name:
        return file.name
    return f"{file.name}.{file.file.rpartition('.')[2]}"
