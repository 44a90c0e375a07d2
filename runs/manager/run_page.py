"""A run's page: what went wrong first, then its picture, and behind tabs everything else that is known of it."""

import json
from dataclasses import dataclass
from time import time
from typing import Any
from urllib.parse import quote

from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.db.models.functions import Length
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from graphs.api.errors import not_found
from graphs.auth.callers import RIGHT_LABELS, Caller
from graphs.definition import redaction
from graphs.web import schema_forms
from graphs.web.page_guard import caller_of, in_admin, may_of, staff_page
from runs.actions.delete import DELETE_RIGHT
from runs.core import statuses
from runs.langgraph import viewer
from runs.manager import timeline
from runs.manager.logs import log_page
from runs.manager.lookups import run_for, uuid_of
from runs.models import AuditEntry, Checkpoint, LogLine, Run, State, Tombstone
from runs.queries import bundle as bundle_module
from runs.queries import diagram, lineage, wait_reasons

TABS = {
    "overview": "Overview", "timeline": "Timeline", "states": "States", "logs": "Logs", "data": "Data", "checkpoints": "Checkpoints",
    "lineage": "Lineage", "history": "History",
}  # fmt: skip
STATES, ROWS, FAILURES, MOST_FAILURES = 100, 100, 5, 200
SHOWN_SECONDS = 10


@dataclass(frozen=True)
class Offer:
    """Something that can be done with the run: a form if `post`, else a link; `reason` says why not now."""

    label: str
    url: str
    post: bool
    reason: str = ""


def offers(run: Run, caller: Caller) -> list[Offer]:
    """Every action, those that are not available with the reason."""

    def offer(label: str, right: str, url: str, post: bool = False, reason: str = "") -> Offer:
        allowed = caller.can(right, run.namespace_id)
        return Offer(
            label,
            url,
            post,
            reason if allowed else f"You may not {RIGHT_LABELS[right]} in this namespace.",
        )

    def verb(name: str, right: str = "cancel", label: str = "") -> Offer:
        possible = name in statuses.RUN_ACTIONS[run.status]
        why = "" if possible else f"The run is {run.status}."
        if name in ("resume", "pause", "retry") and run.version_id is None:
            why = "An outside program drives this run."
        return offer(
            label or name.capitalize(),
            right,
            reverse("run_manager_steer", args=[run.pk, name]),
            True,
            why,
        )

    active = "" if run.ended else f"The run is {run.status}; cancel it first."
    rerun = reverse("run_manager_rerun", args=[run.pk])
    archive = "unarchive" if run.archived_at else "archive"
    return [
        offer("Rerun", "rerun", rerun),
        offer(
            "Rerun what failed",
            "rerun",
            f"{rerun}?from=failed",
            reason="" if run.errored_count or run.cancelled_count else "Nothing of it failed.",
        ),
        verb("cancel"),
        verb("resume") if run.paused else verb("pause"),
        verb("retry", label="Retry in place"),
        Offer(
            "Compare", f"{reverse('run_manager_compare')}?a={run.parent_id or ''}&b={run.pk}", False
        ),
        offer("Export", "export", reverse("run_bundle", args=[run.pk])),
        offer(
            "Save as template",
            "start",
            reverse("run_template_new", args=[run.pk]),
            reason="" if run.graph_id else "It has no graph.",
        ),
        offer(
            "Bring back" if run.archived_at else "Archive",
            "change",
            reverse("run_manager_steer", args=[run.pk, archive]),
            True,
            active,
        ),
        offer("Delete", DELETE_RIGHT, reverse("run_manager_bulk", args=["delete"]), True),
    ]


@require_GET
@staff_page()
def run_page(request: HttpRequest, pk: int, tab: str = "overview") -> HttpResponse:
    """A tab of a run's page. `?since=revision&at=seconds` asks for what changed: 304 when nothing did."""
    if request.headers.get("HX-Request") and _unchanged(request, pk):
        return HttpResponse(status=304)
    try:
        run = run_for(request, pk)
    except Http404:
        if gone := Tombstone.objects.filter(run=pk).first():
            return _gone(request, gone)
        raise
    if request.headers.get("HX-Request"):
        context = {"may": may_of(request), **_context(request, run, tab)}
        return render(
            request, "run_manager/run/_live.html", context, status=286 if run.ended else 200
        )
    return whole(request, run, tab)


def _context(request: HttpRequest, run: Run, tab: str) -> dict[str, Any]:
    return {
        "run": run,
        "tab": tab,
        **_header(run, caller_of(request)),
        **_CONTENT[tab](request, run),
    }


def whole(
    request: HttpRequest, run: Run, tab: str = "overview", code: int = 200, **more: Any
) -> HttpResponse:
    """The page as such."""
    return render(
        request,
        f"run_manager/run/{tab}.html",
        in_admin(request, str(run), tabs=TABS, **_context(request, run, tab), **more),
        status=code,
    )


def _unchanged(request: HttpRequest, pk: int) -> bool:
    """Whether what is shown still holds: what a run waits for changes with time as well, so that lasts for some seconds only."""
    since, at = (request.GET.get(name, "") for name in ("since", "at"))
    if (
        not (since.isascii() and since.isdigit() and at.isascii() and at.isdigit() and len(at) < 15)
        or time() - int(at) > SHOWN_SECONDS
    ):
        return False
    return (
        str(
            Run.objects.visible_to(caller_of(request))
            .filter(pk=pk)
            .values_list("revision", flat=True)
            .first()
        )
        == since
    )


def _gone(request: HttpRequest, gone: Tombstone) -> HttpResponse:
    caller = caller_of(request)
    if not caller.sees(gone.namespace_id):
        return HttpResponse(status=404)
    page = (
        "run_manager/run/_gone.html"
        if request.headers.get("HX-Request")
        else "run_manager/run/gone.html"
    )
    return render(
        request,
        page,
        in_admin(request, "Deleted run", gone=gone),
        status=286 if request.headers.get("HX-Request") else 410,
    )


def _header(run: Run, caller: Caller) -> dict[str, Any]:
    payloads = caller.can("payloads", run.namespace_id)
    return {
        "offers": offers(run, caller),
        "payloads": payloads,
        "recovered_by": lineage.recovered_by(run),
        "here": reverse("run_page", args=[run.pk]),
    }


def _overview(request: HttpRequest, run: Run) -> dict[str, Any]:
    caller = caller_of(request)
    link = f"{reverse('run_tab', args=[run.pk, 'states'])}?node="
    may_answer = caller.can("cancel", run.namespace_id)
    waiting = [
        (
            state,
            schema_forms.answer_form(
                state, request.POST if str(state.pk) in request.path else None
            ),
        )
        for state in wait_reasons.waiting_states(run)
    ]
    return {
        "failed": _failures(run),
        "at": int(time()),
        "why": wait_reasons.why_waiting(run),
        "waiting": waiting if may_answer else [],
        "svg": diagram.inline_svg(run, link) if run.version else "",
        "marks": json.dumps(diagram.marks(run)) if run.version else "[]",
        "lines": LogLine.objects.tails([run.pk], 5)[run.pk],
        "artifacts": run.artifacts.filter(kind="file"),
        "nodes": [(node, *run.node_counts.get(node, (0, 0, 0))) for node in run.version.plan.order][
            :ROWS
        ]
        if run.version
        else [],
    }


def _failures(run: Run) -> list[tuple[State, int]]:
    """The first states that failed, one of each node and error, with how many there are."""
    failed = (
        run.states.filter(status__in=statuses.FAILED_STATES)
        .order_by("finished_at", "pk")
        .defer("inputs", "outputs")[:MOST_FAILURES]
    )
    groups: dict[tuple[str, str], list[State]] = {}
    for state in failed:
        groups.setdefault((state.identifier, state.error), []).append(state)
    return [(states[0], len(states)) for states in list(groups.values())[:FAILURES]]


def _timeline(request: HttpRequest, run: Run) -> dict[str, Any]:
    return {"timeline": timeline.timeline_of(run, uuid_of(request.GET.get("after", "")))}


def _states(request: HttpRequest, run: Run) -> dict[str, Any]:
    """A page of states: of one status, one node, or the one that is named."""
    status, node, one = (
        request.GET.get("status", ""),
        request.GET.get("node", ""),
        uuid_of(request.GET.get("state", "")),
    )
    states: QuerySet[State] = run.states.order_by("pk")
    states = states.filter(status=status) if status in statuses.STATE_STATUSES else states
    states = states.filter(identifier=node) if node else states
    states = states.filter(pk=one) if one else states
    after = uuid_of(request.GET.get("after", ""))
    found = list((states.filter(pk__gt=after) if after else states)[: STATES + 1])
    State.objects.fill_inputs(found)
    payloads = caller_of(request).can("payloads", run.namespace_id)
    for state in found:
        state.inputs, state.outputs = (
            redaction.shown(state.inputs, payloads),
            redaction.shown(state.outputs, payloads),
        )
    counts = sorted(State.objects.filter(run=run).summary().items())
    return {
        "counts": counts,
        "status": status,
        "node": node,
        "states": found[:STATES],
        "next": found[STATES - 1].pk if len(found) > STATES else None,
    }


def _data(request: HttpRequest, run: Run) -> dict[str, Any]:
    payloads = caller_of(request).can("payloads", run.namespace_id)
    parts = {
        "Inputs": run.initial_data,
        "Store": run.store,
        "Metadata": run.metadata,
        "Reported from outside": run.data,
        "Procedure": run.sop,
    }
    return {
        "parts": [
            (name, redaction.shown(value, payloads)) for name, value in parts.items() if value
        ],
        "artifacts": run.artifacts.all(),
    }


def _checkpoints(request: HttpRequest, run: Run) -> dict[str, Any]:
    """The checkpoints with their sizes, and what the chosen one holds."""
    found = (
        Checkpoint.objects.filter(run=run)
        .annotate(size=Length("body"))
        .defer("body")
        .order_by("-checkpoint_id")
    )
    chosen = request.GET.get("checkpoint", "")
    row = (
        Checkpoint.objects.filter(run=run, pk=chosen).first()
        if chosen.isascii() and chosen.isdigit() and len(chosen) < 19
        else None
    )
    inside = (
        redaction.shown(viewer.inspected(row), caller_of(request).can("payloads", run.namespace_id))
        if row
        else None
    )
    page = Paginator(found, ROWS).get_page(request.GET.get("page"))
    return {
        "page": page,
        "writes": run.checkpoint_writes.count(),
        "results": run.tool_results.count(),
        "chosen": row,
        "inside": inside,
    }


def _lineage(request: HttpRequest, run: Run) -> dict[str, Any]:
    return {"tree": lineage.tree_of(run, caller_of(request))}


def _history(request: HttpRequest, run: Run) -> dict[str, Any]:
    entries = AuditEntry.objects.filter(Q(run=run.pk)).order_by("-pk")
    return {"page": Paginator(entries, ROWS).get_page(request.GET.get("page"))}


_CONTENT = {
    "overview": _overview, "timeline": _timeline, "states": _states, "logs": log_page, "data": _data, "checkpoints": _checkpoints,
    "lineage": _lineage, "history": _history,
}  # fmt: skip


@require_GET
@staff_page("export")
def bundle(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The run with all that is known of it as one JSON document."""
    run, caller = run_for(request, pk), caller_of(request)
    caller.require("export", run.namespace_id)
    headers = {"Content-Disposition": f'attachment; filename="run-{run.pk}.json"'}
    return StreamingHttpResponse(
        bundle_module.bundle(run, caller), content_type="application/json", headers=headers
    )


def find_for_people(request: HttpRequest) -> HttpResponseBase:
    """`/runs`, which is a page in seed 004 and no path of the API."""
    return (
        by_thread(request)
        if "text/html" in request.headers.get("Accept", "")
        else not_found(request)
    )


@require_GET
@staff_page()
def by_thread(request: HttpRequest) -> HttpResponse:
    """`/runs?runId=…` of seed 004, and any id that somebody has at hand: to the run's page, or the list with what matches."""
    thread = request.GET.get("runId", "")
    found = list(
        Run.objects.visible_to(caller_of(request))
        .filter(run_id=thread.replace("\x00", ""))
        .values_list("pk", flat=True)[:2]
    )
    if len(found) == 1:
        return redirect("run_page", found[0])
    return redirect(
        f"{reverse('run_manager')}?search={quote(thread)}" if thread else reverse("run_manager")
    )
