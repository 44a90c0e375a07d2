"""The log of a run on its page: searched on the server, followed, downloaded."""

import json
from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from graphs.web.page_guard import caller_of, staff_page
from runs.manager.lookups import run_for, uuid_of
from runs.models import LogLine, Run
from runs.queries import lists

LINES = 500
LEVELS = ("debug", "info", "warning", "error")


def lines_of(run: Run, query: Any) -> QuerySet[LogLine]:
    """The lines that a query asks for: `level` and above, `node`, `state`, and `q`, a part of the text in any case."""
    found = LogLine.objects.filter(run=run)
    level = query.get("level", "")
    found = found.filter(level__in=LEVELS[LEVELS.index(level) :]) if level in LEVELS else found
    found = found.filter(identifier=query["node"]) if query.get("node") else found
    found = found.filter(state=state) if (state := uuid_of(query.get("state", ""))) else found
    return (
        found.filter(message__icontains=query["q"].replace("\x00", "")) if query.get("q") else found
    )


def log_page(request: HttpRequest, run: Run) -> dict[str, Any]:
    """A page of lines: the first, those after a line, or the last ones."""
    if not caller_of(request).can("payloads", run.namespace_id):
        return {"lines": [], "hidden": True}
    query = request.GET.copy()
    after = (
        int(text)
        if (text := query.get("after", "")).isascii() and text.isdigit() and len(text) < 19
        else 0
    )
    found = lines_of(run, query)
    if query.get("tail"):
        lines = sorted(found.order_by("-pk")[:LINES], key=lambda line: line.pk)
        more = False
    else:
        lines = list(found.filter(pk__gt=after).order_by("pk")[: LINES + 1])
        lines, more = lines[:LINES], len(lines) > LINES
    for name in ("after", "tail", "since"):
        query.pop(name, None)
    narrowed = any(query.get(name) for name in ("q", "level", "node", "state"))
    return {
        "lines": lines, "more": more, "after": after, "last": lines[-1].pk if lines else after, "levels": LEVELS, "query": query,
        "link": query.urlencode(), "hits": lists.lines_up_to(found) if narrowed else run.log_count, "narrowed": narrowed,
        "nodes": sorted(run.node_counts),
    }  # fmt: skip


@require_GET
@staff_page("payloads")
def more_lines(request: HttpRequest, pk: int) -> HttpResponse:
    """The lines after one, for a page that follows the log; 286 once the run has ended and nothing is left."""
    run = run_for(request, pk)
    caller_of(request).require("payloads", run.namespace_id)
    context = {"run": run, **log_page(request, run)}
    over = run.ended and not context["more"]
    if not context["lines"] and not over:
        return HttpResponse(status=304)
    return render(
        request,
        "run_manager/run/_lines.html",
        {**context, "following": not over},
        status=286 if over else 200,
    )


@require_GET
@staff_page("payloads")
def download_logs(request: HttpRequest, pk: int, form: str) -> StreamingHttpResponse:
    """All lines that the query asks for, as text or as JSON Lines."""
    run = run_for(request, pk)
    caller_of(request).require("payloads", run.namespace_id)
    lines = lines_of(run, request.GET).order_by("pk").iterator(chunk_size=1000)
    content = _as_text(lines) if form == "log" else _as_json(lines)
    kind = "text/plain; charset=utf-8" if form == "log" else "application/x-ndjson"
    return StreamingHttpResponse(
        content,
        content_type=kind,
        headers={"Content-Disposition": f'attachment; filename="run-{pk}.{form}"'},
    )


def _as_text(lines: Iterator[LogLine]) -> Iterator[str]:
    return (
        f"{line.created_at:%Y-%m-%dT%H:%M:%S.%fZ} {line.level:<7} {line.identifier or '-'} {line.message}\n"
        for line in lines
    )


def _as_json(lines: Iterator[LogLine]) -> Iterator[str]:
    for line in lines:
        values = {
            "at": line.created_at.isoformat(),
            "level": line.level,
            "node": line.identifier or None,
            "attempt": line.attempt,
            "message": line.message,
        }
        yield f"{json.dumps(values, ensure_ascii=False)}\n"
