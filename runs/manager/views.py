"""The Run Manager: the list and its export, what is done to selected runs, and what a run's page asks of it."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from graphs import errors
from graphs.access import Caller, caller_of_user
from runs import deleting, listing, reopening, statuses, stopping
from runs.manager import exporting
from runs.manager.access import staff_page
from runs.manager.forms import InputsForm
from runs.manager.pages import ICONS, SIZES, RunPage
from runs.models import Checkpoint, CheckpointWrite, LogLine, Run, State
from runs.rerunning import rerun

MAX_SELECTED = 200


@require_GET
@staff_page()
def run_list(request: HttpRequest) -> HttpResponse:
    """The list; for htmx only the part that changes."""
    page = RunPage(_caller(request), request.GET)
    context = {"page": page, "icons": ICONS, "words": statuses.RESULT_WORDS, "url": reverse("run_manager")}
    if request.headers.get("HX-Request"):
        answer = render(request, "run_manager/_runs.html", context)
    else:
        choices = {"usernames": listing.distinct(page.all, "username"), "workspaces": listing.distinct(page.all, "workspace"), "sizes": SIZES}
        answer = render(request, "run_manager/list.html", _in_admin(request, "Run Manager", **choices, **context))
    answer["Vary"] = "HX-Request"
    return answer


@require_GET
@staff_page()
def export_runs(request: HttpRequest, form: str) -> StreamingHttpResponse:
    """All runs that match the list's filters, as a file."""
    lines, kind = exporting.exported(RunPage(_caller(request), request.GET).filtered, form)
    return StreamingHttpResponse(lines, content_type=kind, headers={"Content-Disposition": f'attachment; filename="runs.{form}"'})


@require_POST
@staff_page("runs.delete_run")
def delete_runs(request: HttpRequest) -> HttpResponse:
    """Ask whether the selected runs are to go, with all that goes with them; then delete them."""
    back, runs = _back(request), _chosen(request)
    if not runs:
        return redirect(back)
    if "confirmed" in request.POST:
        _delete(request, runs)
        return redirect(back)
    active = [run for run in runs if not run.ended]
    return render(request, "run_manager/delete.html", _in_admin(request, "Delete runs", runs=runs, active=active, traces=_traces(runs), back=back))


def _chosen(request: HttpRequest) -> list[Run]:
    """The runs that were ticked; says so when there are none."""
    chosen = [int(text) for text in request.POST.getlist("run")[:MAX_SELECTED] if text.isascii() and text.isdigit() and len(text) < 19]
    found = Run.objects.visible_to(_caller(request)).filter(pk__in=chosen).select_related("namespace", "graph__current", "version")
    runs = list(found.order_by("-created_at", "-id"))
    if not runs:
        messages.warning(request, "Choose at least one run." if not chosen else "The chosen runs are gone already.")
    return runs


def _delete(request: HttpRequest, runs: list[Run]) -> None:
    """Delete each run in a transaction of its own; what can't be deleted is said with its reason, and the others go."""
    done = 0
    for run in runs:
        try:
            deleting.delete_run(run)
        except errors.StateManagerError as error:
            messages.error(request, f"{run} was not deleted: {error}")
        else:
            done += 1
            _note(request, run, DELETION, "Deleted in the Run Manager.")
    if done:
        messages.success(request, f"{done} run{'s were' if done > 1 else ' was'} deleted.")


@require_POST
@staff_page("runs.change_run")
def cancel_runs(request: HttpRequest) -> HttpResponse:
    """Cancel the selected runs; one that has ended is said, and the others go on."""
    return _each(request, "Cancel", "cancelled", lambda run: stopping.cancel_run(run, _caller(request)))


@require_POST
@staff_page("runs.add_run")
def rerun_runs(request: HttpRequest) -> HttpResponse:
    """Run the selected runs again with the same inputs, on the versions that they had."""
    return _each(request, "Rerun", "run again", lambda run: rerun(run, _caller(request)))


def _each(request: HttpRequest, title: str, done: str, call: Callable[[Run], Any]) -> HttpResponse:
    """After a question, do it to every selected run, each in a transaction of its own, and say what came of it."""
    back, runs, count = _back(request), _chosen(request), 0
    if runs and "confirmed" not in request.POST:
        return render(request, "run_manager/confirm.html", _in_admin(request, title, runs=runs, back=back))
    for run in runs:
        try:
            call(run)
        except errors.StateManagerError as error:
            messages.error(request, f"{run} was not {done}: {error}")
        else:
            count += 1
            _note(request, run, CHANGE, f"{done.capitalize()} in the Run Manager.")
    if count:
        messages.success(request, f"{count} run{'s were' if count > 1 else ' was'} {done}.")
    return redirect(back)


BULK = {"cancel": cancel_runs, "rerun": rerun_runs}


def _traces(runs: list[Run]) -> dict[str, int]:
    """How much goes with these runs."""
    kept: dict[str, Any] = {"states": State, "log lines": LogLine, "checkpoints": Checkpoint, "checkpoint writes": CheckpointWrite}
    found = {name: model.objects.filter(run__in=runs).count() for name, model in kept.items()}
    files = Run.objects.filter(pk__in=[run.pk for run in runs]).aggregate(count=Count("artifacts"), size=Sum("artifacts__size"))
    return {**found, "files": files["count"], "bytes": files["size"] or 0}


@require_http_methods(["GET", "POST"])
@staff_page("runs.add_run")
def rerun_run(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask which version is to run again; then run it and go to the new run."""
    run = get_object_or_404(Run.objects.visible_to(_caller(request)).select_related("graph__current", "version", "namespace"), pk=pk)
    given = {"inputs": json.dumps(run.initial_data, ensure_ascii=False, indent=2)}
    form = InputsForm(request.POST if "inputs" in request.POST else given)
    if request.method == "GET" or not form.is_valid():
        shown = _in_admin(request, "Rerun", run=run, form=form, back=_back(request))
        return render(request, "run_manager/rerun.html", shown, status=200 if request.method == "GET" else 422)
    inputs = form.cleaned_data["inputs"] if form.cleaned_data["inputs"] != run.initial_data else None
    try:
        made = rerun(run, _caller(request), request.POST.get("version") == "newest", inputs)
    except errors.StateManagerError as error:
        messages.error(request, f"{run} can't be run again: {'; '.join([str(error), *map(str, error.extra.get('errors', []))])}")
        return redirect(_back(request))
    _note(request, made, ADDITION, f"Rerun of {run.run_id}.")
    messages.success(request, f"{made} was started.")
    return redirect("admin:runs_run_change", made.pk)


VERBS: dict[str, Callable[[Run, Caller], Any]] = {
    "cancel": stopping.cancel_run,
    "pause": stopping.pause_run,
    "resume": stopping.resume_run,
    "retry": reopening.retry_failed,
}


@require_POST
@staff_page("runs.change_run")
def steer_run(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Cancel, pause, resume or retry a run from its page."""
    run = get_object_or_404(Run.objects.visible_to(_caller(request)).select_related("graph", "version", "namespace"), pk=pk)
    try:
        VERBS[verb](run, _caller(request))
    except errors.StateManagerError as error:
        messages.error(request, str(error))
    else:
        _note(request, run, CHANGE, f"Asked to {verb}.")
        messages.success(request, f"{run}: {verb} was carried out.")
    return redirect("admin:runs_run_change", run.pk)


def _caller(request: HttpRequest) -> Caller:
    return caller_of_user(request.user)


def _in_admin(request: HttpRequest, title: str, **context: Any) -> dict[str, Any]:
    return {**admin.site.each_context(request), "title": title, **context}


def _back(request: HttpRequest) -> str:
    """The list as it was; only a path of our own is taken."""
    query = urlsplit(request.POST.get("back") or request.GET.get("back", "")).query
    return f"{reverse('run_manager')}{f'?{query}' if query else ''}"


def _note(request: HttpRequest, run: Run, flag: int, message: str) -> None:
    """A row of the admin's log: who, what, when."""
    kind = ContentType.objects.get_for_model(Run)
    LogEntry.objects.create(
        user_id=int(request.user.pk or 0), content_type=kind, object_id=str(run.pk), object_repr=str(run)[:200], action_flag=flag, change_message=message
    )
