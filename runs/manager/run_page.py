"""The page of a run: its header, its tabs, and what changes while the page is open."""

from urllib.parse import quote

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from graphs.auth.callers import Caller
from graphs.definition import redaction
from graphs.definition.names import parse_id
from graphs.definition.types import JsonObject
from graphs.models import clock
from graphs.web.downloads import attachment
from graphs.web.page_guard import caller_of, in_admin, may_of, staff_page
from runs.manager.lookups import run_for
from runs.manager.run_tabs import CONTENT, TABS
from runs.manager.run_tools import tools_of
from runs.models import AuditEntry, Run, Tombstone
from runs.queries import lineage
from runs.queries.bundle import bundle

FRESH_SECONDS = 10


@require_GET
@staff_page()
def run_page(request: HttpRequest, pk: int, tab: str = "overview") -> HttpResponse:
    """A tab of the run's page.

    htmx asks with `?since=revision&at=seconds` for what changed. The answer is 304 if nothing
    did, and 286, which ends the polling, once the run has ended.
    """
    polling = bool(request.headers.get("HX-Request"))
    if polling and _is_unchanged(request, pk):
        return HttpResponse(status=304)
    run = _run_or_its_end(request, pk)
    if isinstance(run, HttpResponse):
        return run
    if not polling:
        return render_run_page(request, run, tab)
    context = {"may": may_of(request), **_context(request, run, tab)}
    return _live(request, "run_manager/run/_live.html", run, context)


@require_GET
@staff_page()
def run_head(request: HttpRequest, pk: int) -> HttpResponse:
    """The header and the actions of a run, for the tabs that don't show its progress.

    Answers as `run_page` does when it is polled.
    """
    if _is_unchanged(request, pk):
        return HttpResponse(status=304)
    run = _run_or_its_end(request, pk)
    if isinstance(run, HttpResponse):
        return run
    context = {"may": may_of(request), **_of_run(run, caller_of(request))}
    return _live(request, "run_manager/run/_head_live.html", run, context)


def _run_or_its_end(request: HttpRequest, pk: int) -> Run | HttpResponse:
    """The run, or the page that says that it was deleted. Raises Http404 for other ids."""
    try:
        return run_for(request, pk)
    except Http404:
        tombstone = Tombstone.objects.filter(run=pk).first()
        if tombstone is None:
            raise
        return _deleted_page(request, tombstone)


def _live(request: HttpRequest, template: str, run: Run, context: JsonObject) -> HttpResponse:
    """What changed. The status 286 ends the polling."""
    return render(request, template, context, status=286 if run.ended else 200)


def render_run_page(
    request: HttpRequest, run: Run, tab: str = "overview", status: int = 200
) -> HttpResponse:
    """The whole page."""
    context = in_admin(request, _title(run), tabs=TABS, **_context(request, run, tab))
    return render(request, f"run_manager/run/{tab}.html", context, status=status)


def _title(run: Run) -> str:
    """The name of the run; without one, its graph and when it was created."""
    if run.name or run.graph is None:
        return str(run)
    return f"{run.graph.name} · {timezone.localtime(run.created_at):%Y-%m-%d %H:%M}"


def _context(request: HttpRequest, run: Run, tab: str) -> JsonObject:
    header = _of_run(run, caller_of(request))
    return {"tab": tab, **header, **CONTENT[tab](request, run)}


def _of_run(run: Run, caller: Caller) -> JsonObject:
    """What the header and the actions show."""
    header = _header(run, caller)
    redaction.hide([run], header["payloads"])
    return {"run": run, **header}


def _header(run: Run, caller: Caller) -> JsonObject:
    return {
        "at": int(clock.estimate().timestamp()),
        "tools": tools_of(run, caller),
        "payloads": caller.can("payloads", run.namespace_id),
        "recovered_by": lineage.recovered_by(run),
        "here": reverse("run_page", args=[run.pk]),
    }


def _is_unchanged(request: HttpRequest, pk: int) -> bool:
    """Whether the page still shows the run as it is.

    What a run waits for changes with time, too, so a page is out of date after some seconds even
    if the run's revision is the same.
    """
    since = parse_id(request.GET.get("since", ""))
    at = parse_id(request.GET.get("at", ""))
    if since is None or at is None or clock.estimate().timestamp() - at > FRESH_SECONDS:
        return False
    revisions = Run.objects.visible_to(caller_of(request)).values_list("revision", flat=True)
    return revisions.filter(pk=pk).first() == since


def _deleted_page(request: HttpRequest, tombstone: Tombstone) -> HttpResponse:
    if not caller_of(request).sees(tombstone.namespace_id):
        return HttpResponse(status=404)
    polling = request.headers.get("HX-Request")
    template = "run_manager/run/_gone.html" if polling else "run_manager/run/gone.html"
    context = in_admin(request, "Deleted run", tombstone=tombstone)
    return render(request, template, context, status=286 if polling else 410)


@require_GET
@staff_page("export")
def download_bundle(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The run with everything that belongs to it, as one JSON document."""
    run, caller = run_for(request, pk), caller_of(request)
    caller.require("export", run.namespace_id)
    AuditEntry.objects.record(caller, "download", run, "bundle")
    return StreamingHttpResponse(
        bundle(run, caller),
        content_type="application/json",
        headers=attachment(f"run-{run.pk}.json"),
    )


@require_GET
@staff_page()
def find_run(request: HttpRequest) -> HttpResponse:
    """From the run id in `?runId=` to the run's page.

    If no run or several runs have the id, the list shows what matches.
    """
    run_id = request.GET.get("runId", "")
    if not run_id:
        return redirect("run_manager")
    runs = Run.objects.visible_to(caller_of(request)).filter(run_id=run_id)
    pks = list(runs.values_list("pk", flat=True)[:2])
    if len(pks) == 1:
        return redirect("run_page", pks[0])
    return redirect(f"{reverse('run_manager')}?search={quote(run_id)}")
