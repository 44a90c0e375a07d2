"""The content of each tab of a run's page."""

import json
from collections.abc import Callable, Iterable
from uuid import UUID

from django.core.paginator import Paginator
from django.db.models.functions import Length
from django.http import HttpRequest
from django.urls import reverse

from graphs.definition import redaction
from graphs.definition.names import parse_id
from graphs.definition.types import JsonObject
from graphs.web import schema_forms
from graphs.web.page_guard import caller_of
from runs.actions import notes
from runs.core import statuses
from runs.engine.steps import key_of
from runs.external import documents
from runs.langgraph import edits, viewer
from runs.manager import timeline
from runs.manager.logs import log_page
from runs.manager.lookups import uuid_of
from runs.models import AuditEntry, Checkpoint, LogLine, RecurringRerun, Run, RunNote, State
from runs.queries import (
    attempts,
    diagram,
    events,
    lineage,
    metrics,
    questions,
    tracebacks,
    wait_reasons,
)
from runs.queries.lists import StateRow
from runs.queries.run_context import context_of

TABS = {
    "overview": "Overview",
    "timeline": "Timeline",
    "states": "States",
    "metrics": "Metrics",
    "logs": "Logs",
    "events": "Events",
    "data": "Data",
    "checkpoints": "Checkpoints",
    "lineage": "Lineage",
    "notes": "Notes",
    "history": "History",
}
STATES = 100  # states on a page
NOTES = 20  # notes on a page
ROWS = 100  # rows of the other tables on a page
FILES = 20  # files on the overview
SCHEDULES = 20  # of the run's recurring reruns, below its tree
LAST_LINES = 5  # log lines on the overview
FAILURES, MAX_FAILURES = 5, 200  # groups of failures shown, failed states read for them


def _overview(request: HttpRequest, run: Run) -> JsonObject:
    files = list(run.artifacts.filter(kind="file").order_by("pk")[: FILES + 1])
    states_url = f"{reverse('run_tab', args=[run.pk, 'states'])}?node="
    may_answer = caller_of(request).can("cancel", run.namespace_id)
    payloads = caller_of(request).can("payloads", run.namespace_id)
    return {
        "failures": _failures(run, payloads),
        "wait_reasons": wait_reasons.why_waiting(run, payloads),
        "waiting": _answer_forms(request, run) if may_answer else [],
        "svg": diagram.inline_svg(run, states_url) if run.version else "",
        "marks": json.dumps(diagram.marks(run)) if run.version else "[]",
        "lines": LogLine.objects.tails([run.pk], LAST_LINES)[run.pk],
        "artifacts": files[:FILES],
        "more_files": len(files) > FILES,
        "nodes": _node_counts(run),
    }


AnswerForm = tuple[State, schema_forms.SchemaForm | schema_forms.AnyForm, str]


def _answer_forms(request: HttpRequest, run: Run) -> list[AnswerForm]:
    """The states that wait for an answer, each with its form and with what happens without one.

    The form that was sent is bound.
    """
    states = wait_reasons.waiting_states(run)
    times = questions.answer_by(states)
    forms = []
    for state in states:
        data = request.POST if str(state.pk) in request.path else None
        fate = questions.fate(state, times.get(state.pk))
        forms.append((state, schema_forms.answer_form(state, data), fate))
    return forms


def _node_counts(run: Run) -> list[tuple[str, int, int, int]]:
    """(node, states, succeeded, failed) of the run's nodes, in the order of the plan."""
    if run.version is None:
        return []
    rows = []
    for node in run.version.plan.order[:ROWS]:
        known, succeeded, failed = run.node_counts.get(node, (0, 0, 0))
        rows.append((node, known, succeeded, failed))
    return rows


def _failures(run: Run, payloads: bool) -> list[tuple[State, int, str]]:
    """The first states that failed, grouped by node and error.

    Each comes with the size of its group and its traceback, if there is one.
    """
    failed = run.states.filter(status__in=statuses.FAILED_STATES)
    failed = failed.order_by("finished_at", "pk").defer("inputs", "outputs")
    states = list(failed[:MAX_FAILURES])
    redaction.hide(states, payloads)
    groups: dict[tuple[str, str], list[State]] = {}
    for state in states:
        groups.setdefault((state.identifier, state.error), []).append(state)
    first = [group[0] for group in list(groups.values())[:FAILURES]]
    traces = tracebacks.of_states(run, first) if payloads else {}
    return [
        (state, len(groups[state.identifier, state.error]), traces.get(state.pk, ""))
        for state in first
    ]


def _timeline(request: HttpRequest, run: Run) -> JsonObject:
    return {"timeline": timeline.timeline_of(run, uuid_of(request.GET.get("after", "")))}


def _metrics(request: HttpRequest, run: Run) -> JsonObject:
    return {"metrics": metrics.of_run(run)}


def _states(request: HttpRequest, run: Run) -> JsonObject:
    """A page of states: all of them, those of one status or node, or a single one."""
    status, node = request.GET.get("status", "").upper(), request.GET.get("node", "")
    pk = uuid_of(request.GET.get("state", ""))
    after = uuid_of(request.GET.get("after", ""))
    matching = run.states.order_by("pk")
    if status in statuses.STATE_STATUSES:
        matching = matching.filter(status=status)
    if node:
        matching = matching.filter(identifier=node)
    if pk:
        matching = matching.filter(pk=pk)
    if after:
        matching = matching.filter(pk__gt=after)

    states = list(matching[: STATES + 1])
    State.objects.fill_inputs(states)
    for state in states:
        state.idempotency_key = key_of(run, state)  # type: ignore[attr-defined]
    redact_payloads(states, caller_of(request).can("payloads", run.namespace_id))
    payloads = caller_of(request).can("payloads", run.namespace_id)
    return {
        "attempts": _attempts(run, states[0], payloads) if pk and states else [],
        "counts": sorted(State.objects.filter(run=run).summary().items()),
        "status": status,
        "node": node,
        "states": states[:STATES],
        "next": states[STATES - 1].pk if len(states) > STATES else None,
    }


def _attempts(run: Run, state: State, payloads: bool) -> list[attempts.Attempt]:
    rows = attempts.attempts_of(run, state)
    redaction.hide(rows, payloads)
    return rows


def redact_payloads(states: Iterable[State] | Iterable[StateRow], payloads: bool) -> None:
    """Hide secrets in the inputs and outputs of states; without `payloads`, hide all of them."""
    redaction.hide(states, payloads)
    for state in states:
        state.inputs = redaction.shown(state.inputs)
        state.outputs = redaction.shown(state.outputs)


def _events(request: HttpRequest, run: Run) -> JsonObject:
    after = uuid_of(request.GET.get("after", ""))
    rows, last = events.events_of(run, UUID(after) if after else None)
    return {"events": rows, "last": last}


def _data(request: HttpRequest, run: Run) -> JsonObject:
    """What the run was given and what it stored."""
    values = {
        "Context": context_of(run),
        "Inputs": run.initial_data,
        "Store": run.store,
        "Metadata": run.metadata,
        "Reported by the outside program": run.data,
        "Procedure": run.sop,
    }
    parts = [(name, redaction.shown(value)) for name, value in values.items() if value]
    page = Paginator(run.artifacts.order_by("pk"), ROWS).get_page(request.GET.get("page"))
    return {"parts": parts, "page": page}


def _checkpoints(request: HttpRequest, run: Run) -> JsonObject:
    """The checkpoints with their sizes, and the content of the chosen one."""
    checkpoints = Checkpoint.objects.filter(run=run)
    pk = parse_id(request.GET.get("checkpoint", ""))
    chosen = checkpoints.filter(pk=pk).first() if pk is not None else None
    content, changed = None, []
    caller = caller_of(request)
    if chosen:
        payloads = caller.can("payloads", run.namespace_id)
        changed = edits.changes(chosen, payloads)
        content = redaction.shown(viewer.inspected(chosen), payloads)
    listed = checkpoints.annotate(size=Length("body")).defer("body").order_by("-checkpoint_id")
    return {
        "page": Paginator(listed, ROWS).get_page(request.GET.get("page")),
        "writes": run.checkpoint_writes.count(),
        "results": run.tool_results.count(),
        "chosen": chosen,
        "documents_ns": documents.NS,  # what a program reported is no checkpoint of a thread
        "content": content,
        "changes": changed,
        "may_fork": caller.can("start", run.namespace_id),
        "may_delete": caller.can("delete", run.namespace_id),
    }


def _lineage(request: HttpRequest, run: Run) -> JsonObject:
    schedules = list(RecurringRerun.objects.filter(run=run).order_by("pk")[:SCHEDULES])
    return {"tree": lineage.tree_of(run, caller_of(request)), "schedules": schedules}


def _notes(request: HttpRequest, run: Run) -> JsonObject:
    caller = caller_of(request)
    entries = RunNote.objects.filter(run=run).order_by("-pk")
    page = Paginator(entries, NOTES).get_page(request.GET.get("page"))
    return {
        "page": page,
        "notes": [(note, notes.may_delete_note(note, run, caller)) for note in page],
        "may_write": caller.can("change", run.namespace_id),
        "max_text": notes.MAX_TEXT,
        "sent_text": request.POST.get("text", ""),
    }


def _history(request: HttpRequest, run: Run) -> JsonObject:
    entries = AuditEntry.objects.filter(run=run.pk).order_by("-pk")
    return {"page": Paginator(entries, ROWS).get_page(request.GET.get("page"))}


CONTENT: dict[str, Callable[[HttpRequest, Run], JsonObject]] = {
    "overview": _overview,
    "timeline": _timeline,
    "states": _states,
    "metrics": _metrics,
    "logs": log_page,
    "events": _events,
    "data": _data,
    "checkpoints": _checkpoints,
    "lineage": _lineage,
    "notes": _notes,
    "history": _history,
}
