"""The run list: its page, its live rows, its export, and the columns and views that users save."""

import re
from typing import Literal, TypedDict

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    QueryDict,
    StreamingHttpResponse,
)
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.types import JsonObject
from graphs.models import Graph
from graphs.web.downloads import attachment
from graphs.web.links import back_to
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, in_admin, may_of, staff_page
from graphs.web.ttl_cache import cached
from runs.actions import export, saved_views
from runs.core import statuses
from runs.manager import choices
from runs.manager.columns import COLUMNS, USUAL
from runs.manager.list_query import RANGES
from runs.manager.run_list import RunPage
from runs.models import AuditEntry, ColumnChoice, Run, SavedView
from runs.queries import lists
from runs.queries.lists import PAGE_SIZES

UNCACHED_NAMES = 20  # menus with at most this many names are read again for every page
GROUPS = 100  # of the user that the menu of views has
MENU_VIEWS = 20  # that the menu of the list has
VIEWS = 50  # views on a page of their list
MAX_LIVE = 200  # rows that one poll asks for
MAX_NEW = 1000  # new runs that a poll counts
_PAIR = re.compile(r"(\d{1,18})-(\d{1,18})")


class Names(TypedDict):
    """The names that the filters offer, one more than MAX_CHOICES if there are as many."""

    usernames: list[str]
    workspaces: list[str]
    graphs: list[str]
    namespaces: list[str]


ALL_NAMES: tuple[Literal["usernames", "workspaces", "graphs", "namespaces"], ...] = (
    "usernames",
    "workspaces",
    "graphs",
    "namespaces",
)


@require_GET
@staff_page()
def run_list(request: HttpRequest) -> HttpResponse:
    """The list. htmx gets only the part that changes.

    Without a query it opens with the user's default view.
    """
    caller = caller_of(request)
    choice = ColumnChoice.objects.filter(user=request.user.pk).first() or ColumnChoice()
    if choice.view_id and not request.GET:
        default = saved_views.default_of(caller)
        if default:
            return redirect(f"{reverse('run_manager')}?view={default.pk}&{default.query}")
    page = RunPage(caller, request.GET, choice.columns or USUAL)
    context = {"page": page, "may": may_of(request), "url": reverse("run_manager")}
    if request.headers.get("HX-Request"):
        response = render(request, "run_manager/_runs.html", context)
    else:
        context = in_admin(request, "Run Manager", **_choices(request, choice), **context)
        response = render(request, "run_manager/list.html", context)
    response["Vary"] = "HX-Request"
    return response


def _choices(request: HttpRequest, choice: ColumnChoice) -> JsonObject:
    """What the menus of the page offer."""
    caller = caller_of(request)
    names = cached(
        ("choices", caller.namespaces),
        lambda: _names(caller),
        lambda names: any(len(names[kind]) > UNCACHED_NAMES for kind in ALL_NAMES),
    )
    views = list(SavedView.objects.visible_to(caller)[: MENU_VIEWS + 1])
    return {
        **names,
        "sizes": PAGE_SIZES,
        "ranges": RANGES,
        "status_labels": statuses.RUN_RESULTS,
        "triggers": Run.Trigger.values,
        "all_columns": COLUMNS,
        "views": views[:MENU_VIEWS],
        "more_views": len(views) > MENU_VIEWS,
        "default_view": choice.view_id,
        "groups": saved_views.groups_of(caller).values_list("name", flat=True)[:GROUPS],
        "changeable": _changeable(caller),
        "all_namespaces": "all namespaces" if caller.namespaces is None else "",
    }


def _names(caller: Caller) -> Names:
    return {
        "usernames": choices.values_of(caller, "username"),
        "workspaces": choices.values_of(caller, "workspace"),
        "graphs": choices.names_of(Graph.objects.visible_to(caller), choices.IN_NAMESPACE),
        "namespaces": choices.names_of(choices.visible_namespaces(caller), ("name",)),
    }


@require_GET
@staff_page()
def live_rows(request: HttpRequest) -> HttpResponse:
    """The rows that changed, and the number of runs that are newer than the page.

    `runs` names the rows that may change, as `pk-revision` joined by dots. `newest` is the newest
    run at the last poll, `first` the newest one when the page was opened. If nothing changed, the
    answer is 304 after a single query.
    """
    caller = caller_of(request)
    pairs = _PAIR.findall(request.GET.get("runs", ""))[:MAX_LIVE]
    known = {int(pk): int(revision) for pk, revision in pairs}
    newest = parse_id(request.GET.get("newest", "")) or 0
    first = parse_id(request.GET.get("first", "")) or 0
    last, revisions = lists.revisions(caller, known)
    if revisions == known and last <= newest:
        return HttpResponse(status=304)

    page = RunPage(caller, _list_query(request))
    page.runs = page.with_fields(Run.objects.visible_to(caller).filter(pk__in=known))
    newer = 0
    if first:
        page.first_seen = first
        newer = page.filtered.filter(pk__gt=first)[:MAX_NEW].count()
    context = {
        "page": page,
        "may": may_of(request),
        "url": reverse("run_manager"),
        "deleted": [pk for pk in known if pk not in revisions],
        "newer": newer,
    }
    return render(request, "run_manager/_live.html", context)


def _list_query(request: HttpRequest) -> QueryDict:
    """The query of the list, without what the poll added."""
    query = request.GET.copy()
    for name in ("runs", "newest", "first"):
        query.pop(name, None)
    return query


@require_GET
@staff_page("export")
def export_runs(request: HttpRequest, form: str) -> HttpResponseBase:
    """All runs that match the filters of the list, as a file in the order of the list.

    With `cols` it has these columns of the list; otherwise it has those of every export. A filter
    with a wrong value leads back to the list: a file would not say that it was ignored.
    """
    caller = caller_of(request)
    page = RunPage(caller, request.GET)
    runs = export.exportable(page.filtered, caller)
    if page.filter_problems:
        messages.error(request, "Nothing was exported, because a filter has a wrong value.")
        return redirect(f"{reverse('run_manager')}?{request.GET.urlencode()}")
    _ = page.possible_ordering
    columns = tuple(page.columns) if request.GET.get("cols") else ()
    view = export.View(columns, page.ordering)
    lines, content_type = export.exported(runs, form, caller, view)
    filters = request.GET.urlencode()[:500] or "everything"
    AuditEntry.objects.record_global(caller, "export", f"{form}: {filters}")
    return StreamingHttpResponse(
        lines,
        content_type=content_type,
        headers=attachment(f"runs.{form}"),
    )


@require_POST
@staff_page()
def choose_columns(request: HttpRequest) -> HttpResponse:
    """Save the columns that the user wants to see. Choosing none restores the usual ones."""
    columns = [name for name in request.POST.getlist("column") if name in COLUMNS]
    ColumnChoice.objects.update_or_create(
        user_id=int(request.user.pk or 0), defaults={"columns": columns}
    )
    return redirect(back_to(request, "run_manager"))


@require_http_methods(["GET", "POST"])
@staff_page()
def views(request: HttpRequest) -> HttpResponse:
    """All views that the user sees. A POST saves the query of the list under a name."""
    if request.method == "POST":
        return _save_view(request)
    caller = caller_of(request)
    page = Paginator(SavedView.objects.visible_to(caller), VIEWS).get_page(request.GET.get("page"))
    context = in_admin(
        request,
        "Saved views",
        page=page,
        url=reverse("run_manager"),
        changeable=_changeable(caller),
        default_view=_default_pk(caller),
    )
    return render(request, "run_manager/views.html", context)


def _default_pk(caller: Caller) -> int | None:
    return ColumnChoice.objects.filter(user=caller.user).values_list("view", flat=True).first()


def _changeable(caller: Caller) -> set[int]:
    """The keys of the views that the caller may delete."""
    return set(SavedView.objects.changeable_by(caller).values_list("pk", flat=True))


def _save_view(request: HttpRequest) -> HttpResponse:
    """Save a view for the user, for a group, or for those who see a namespace.

    A view of the user with this name is replaced.
    """
    form = request.POST
    name = form.get("name", "").strip()
    query = form.get("query", "").lstrip("?")
    if name:
        namespace, group = form.get("namespace", ""), form.get("group", "")
        shared = "shared" in form or bool(group)
        try:
            saved_views.save(caller_of(request), name, query, shared, namespace, group)
        except errors.StateManagerError as error:
            messages.error(request, message_of(error))
    return redirect(f"{reverse('run_manager')}?{query}")


@require_POST
@staff_page()
def delete_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a view of the user's own, or a shared one where the user may change runs."""
    try:
        saved_views.remove(caller_of(request), pk)
    except errors.NotFound as error:
        raise Http404 from error
    return redirect(back_to(request, "run_manager"))


@require_POST
@staff_page()
def choose_default(request: HttpRequest, pk: int) -> HttpResponse:
    """Let the list open with this view for the user; without `chosen`, no longer."""
    try:
        saved_views.choose_default(caller_of(request), pk, "chosen" in request.POST)
    except errors.NotFound as error:
        raise Http404 from error
    return redirect(back_to(request, "run_manager"))
