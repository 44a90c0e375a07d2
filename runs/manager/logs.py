"""The log tab of a run: searched in the database, followed while the run lasts, downloaded."""

import json

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from graphs.definition.names import parse_id
from graphs.definition.types import JsonObject
from graphs.web.downloads import attachment
from graphs.web.page_guard import caller_of, staff_page
from runs.manager.choices import nodes_of
from runs.manager.lookups import run_for, uuid_of
from runs.models import AuditEntry, LogLine, Run
from runs.queries import lists

LINES = 500  # lines on a page
LEVELS = ("debug", "info", "warning", "error")
FILTERS = ("q", "level", "node", "state")


def filtered_lines(run: Run, query: QueryDict) -> QuerySet[LogLine]:
    """The lines that match a query.

    `level` means this level and above, `node` and `state` the lines of one node or state, and `q`
    a part of the text in any case.
    """
    lines = LogLine.objects.filter(run=run)
    level, node, text = query.get("level", ""), query.get("node"), query.get("q")
    state = uuid_of(query.get("state", ""))
    if level in LEVELS:
        lines = lines.filter(level__in=LEVELS[LEVELS.index(level) :])
    if node:
        lines = lines.filter(identifier=node)
    if state:
        lines = lines.filter(state=state)
    if text:
        lines = lines.filter(message__any_case=text)
    return lines


def log_page(request: HttpRequest, run: Run) -> JsonObject:
    """A page of lines: the first ones, those after a line, or the last ones."""
    if not caller_of(request).can("payloads", run.namespace_id):
        return {"lines": [], "hidden": True}
    query = request.GET.copy()
    after = parse_id(query.get("after", "")) or 0
    matching = filtered_lines(run, query)
    lines, more = _last_lines(matching) if query.get("tail") else _lines_after(matching, after)
    for name in ("after", "tail", "since"):
        query.pop(name, None)
    narrowed = any(query.get(name) for name in FILTERS)
    return {
        "lines": lines,
        "more": more,
        "after": after,
        "last": lines[-1].pk if lines else after,
        "levels": LEVELS,
        "query": query,
        "link": query.urlencode(),
        "count": lists.lines_up_to(matching) if narrowed else run.log_count,
        "narrowed": narrowed,
        "nodes": nodes_of(run),
    }


def _last_lines(lines: QuerySet[LogLine]) -> tuple[list[LogLine], bool]:
    newest_first = list(lines.order_by("-pk")[:LINES])
    return newest_first[::-1], False


def _lines_after(lines: QuerySet[LogLine], after: int) -> tuple[list[LogLine], bool]:
    """The lines of a page, and whether there are more."""
    page = list(lines.filter(pk__gt=after).order_by("pk")[: LINES + 1])
    return page[:LINES], len(page) > LINES


@require_GET
@staff_page("payloads")
def more_lines(request: HttpRequest, pk: int) -> HttpResponse:
    """The lines after one, for a page that follows the log.

    The answer is 304 if there are none, and 286, which ends the polling, once the run has ended
    and no line is missing.
    """
    run = run_for(request, pk)
    caller_of(request).require("payloads", run.namespace_id)
    context = {"run": run, **log_page(request, run)}
    over = run.ended and not context["more"]
    if not context["lines"] and not over:
        return HttpResponse(status=304)
    context["following"] = not over
    return render(request, "run_manager/run/_lines.html", context, status=286 if over else 200)


@require_GET
@staff_page("payloads")
def download_logs(request: HttpRequest, pk: int, form: str) -> StreamingHttpResponse:
    """All lines that match the query, as text or as JSON Lines."""
    run, caller = run_for(request, pk), caller_of(request)
    caller.require("payloads", run.namespace_id)
    AuditEntry.objects.record(caller, "download", run, f"lines as {form}")
    lines = filtered_lines(run, request.GET).order_by("pk").iterator(chunk_size=1000)
    as_text = form == "log"
    return StreamingHttpResponse(
        map(_text_line if as_text else _json_line, lines),
        content_type="text/plain; charset=utf-8" if as_text else "application/x-ndjson",
        headers=attachment(f"run-{pk}.{form}"),
    )


def _text_line(line: LogLine) -> str:
    at = f"{line.created_at:%Y-%m-%dT%H:%M:%S.%fZ}"
    return f"{at} {line.level:<7} {line.identifier or '-'} {line.message}\n"


def _json_line(line: LogLine) -> str:
    values = {
        "at": line.created_at.isoformat(),
        "level": line.level,
        "node": line.identifier or None,
        "attempt": line.attempt,
        "message": line.message,
    }
    return f"{json.dumps(values, ensure_ascii=False)}\n"
