"""The Run Manager's list: the page, what of it is alive, its export, the columns and the views that people keep."""

import re
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from graphs.auth.callers import Caller
from graphs.models import Graph, Namespace
from graphs.web.links import back_to
from graphs.web.page_guard import caller_of, in_admin, may_of, staff_page
from graphs.web.ttl_cache import cached
from runs.actions import export
from runs.core import statuses
from runs.manager.columns import COLUMNS, USUAL
from runs.manager.run_list import RANGES, RunPage
from runs.models import AuditEntry, ColumnChoice, Run, SavedView
from runs.queries import lists

MAX_GRAPHS = 200
FEW = 20  # so many names in a menu are read anew for every page
_PAIR = re.compile(r"(\d{1,18})-(\d{1,18})")


@require_GET
@staff_page()
def run_list(request: HttpRequest) -> HttpResponse:
    """The list; for htmx only the part that changes."""
    page = _page_of(request)
    context = {"page": page, "may": may_of(request), "url": reverse("run_manager")}
    if request.headers.get("HX-Request"):
        answer = render(request, "run_manager/_runs.html", context)
    else:
        answer = render(
            request,
            "run_manager/list.html",
            in_admin(request, "Run Manager", **_choices(request), **context),
        )
    answer["Vary"] = "HX-Request"
    return answer


def _page_of(request: HttpRequest) -> RunPage:
    chosen = (
        ColumnChoice.objects.filter(user=request.user.pk).values_list("columns", flat=True).first()
    )
    return RunPage(caller_of(request), request.GET, chosen or USUAL)


def _choices(request: HttpRequest) -> dict[str, Any]:
    caller = caller_of(request)
    return {
        **cached(
            ("choices", caller.namespaces),
            lambda: _names(caller),
            lambda names: len(names["usernames"]) > FEW,
        ),
        "sizes": lists.PAGE_SIZES,
        "ranges": RANGES,
        "words": statuses.RUN_RESULTS,
        "triggers": Run.Trigger.values,
        "all_columns": COLUMNS,
        "views": SavedView.objects.filter(Q(owner=request.user.pk) | Q(shared=True)).select_related(
            "owner"
        ),
    }


def _names(caller: Caller) -> dict[str, list[str]]:
    graphs: Any = Graph.objects.visible_to(caller).select_related("namespace")
    return {
        "usernames": lists.distinct(caller, "username"),
        "workspaces": lists.distinct(caller, "workspace"),
        "graphs": [str(graph) for graph in graphs[:MAX_GRAPHS]],
        "namespaces": [space.name for space in Namespace.objects.all() if caller.sees(space.pk)][
            :MAX_GRAPHS
        ],
    }


@require_GET
@staff_page()
def live_rows(request: HttpRequest) -> HttpResponse:
    """What changed of the rows that may still change (`runs` is pk-revision.…), and how many runs came after `newest`.

    304 after one query when nothing did.
    """
    caller = caller_of(request)
    known = {
        int(pk): int(revision) for pk, revision in _PAIR.findall(request.GET.get("runs", ""))[:200]
    }
    newest, first = (_whole(request.GET.get(name, "")) for name in ("newest", "first"))
    last, found = lists.revisions(caller, known)
    if found == known and last <= newest:
        return HttpResponse(status=304)
    visible = Run.objects.visible_to(caller)
    query = request.GET.copy()
    for name in ("runs", "newest", "first"):
        query.pop(name, None)
    page = RunPage(caller, query)
    page.runs = page.drawn(visible.filter(pk__in=known))
    context = {
        "page": page, "may": may_of(request), "url": reverse("run_manager"), "first": first,
        "gone": [pk for pk in known if pk not in found],
        "newer": page.filtered.filter(pk__gt=first)[:1000].count() if first else 0,
    }  # fmt: skip
    return render(request, "run_manager/_live.html", context)


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


@require_GET
@staff_page("export")
def export_runs(request: HttpRequest, form: str) -> StreamingHttpResponse:
    """All runs that match the list's filters, as a file."""
    caller = caller_of(request)
    runs = export.exportable(RunPage(caller, request.GET).filtered, caller)
    lines, kind = export.exported(runs, form)
    AuditEntry.objects.record_global(
        caller, "export", f"{form}: {request.GET.urlencode()[:500] or 'everything'}"
    )
    return StreamingHttpResponse(
        lines,
        content_type=kind,
        headers={"Content-Disposition": f'attachment; filename="runs.{form}"'},
    )


@require_POST
@staff_page()
def choose_columns(request: HttpRequest) -> HttpResponse:
    """Keep the columns that the user wants; none means the usual ones."""
    chosen = [name for name in request.POST.getlist("column") if name in COLUMNS]
    ColumnChoice.objects.update_or_create(
        user_id=int(request.user.pk or 0), defaults={"columns": chosen}
    )
    return redirect(back_to(request, "run_manager"))


@require_POST
@staff_page()
def save_view(request: HttpRequest) -> HttpResponse:
    """Keep the list's query under a name, for oneself or for everybody; the same name again replaces it."""
    name, query = (
        request.POST.get("name", "").strip()[:100],
        request.POST.get("query", "").lstrip("?")[:4000],
    )
    if name:
        values = {"query": query, "shared": "shared" in request.POST}
        SavedView.objects.update_or_create(owner_id=request.user.pk, name=name, defaults=values)
    return redirect(f"{reverse('run_manager')}?{query}")


@require_POST
@staff_page()
def delete_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Forget a view of one's own; superusers may forget any."""
    own = Q() if caller_of(request).may("admin") else Q(owner=request.user.pk)
    get_object_or_404(SavedView.objects.filter(own), pk=pk).delete()
    return redirect(back_to(request, "run_manager"))
