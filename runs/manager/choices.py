"""The suggestions of the fields in which a name is typed: those that match what was typed."""

from collections.abc import Callable

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from graphs.auth.callers import Caller
from graphs.definition.names import parse_id
from graphs.editor.named_form import startable_namespaces
from graphs.models import Dataset, Graph, Namespace
from graphs.web.page_guard import caller_of, staff_page
from graphs.web.pickers import MAX_CHOICES, matching, some
from runs.manager.lookups import run_for
from runs.models import Run
from runs.queries import lists

MAX_TYPED = 200  # characters of a name
IN_NAMESPACE = ("namespace__name", "name")
Rows = tuple[QuerySet, tuple[str, ...]]  # what is suggested, and what its names consist of


@require_GET
@staff_page()
def choices(request: HttpRequest, kind: str) -> HttpResponse:
    """Up to MAX_CHOICES names of a kind as options. `field` says which parameter was typed into."""
    text = request.GET.get(request.GET.get("field", ""), "")[:MAX_TYPED]
    return render(
        request, "run_manager/_choices.html", {"names": KINDS[kind](request, text)[:MAX_CHOICES]}
    )


def runnable_graphs(caller: Caller) -> QuerySet[Graph]:
    """The graphs of which the caller may see runs, if their current version can run."""
    graphs: QuerySet[Graph] = Graph.objects.visible_to(caller).filter(current__problems=[])
    return graphs


def visible_namespaces(caller: Caller) -> QuerySet[Namespace]:
    namespaces = Namespace.objects.all()
    return namespaces if caller.namespaces is None else namespaces.filter(pk__in=caller.namespaces)


def names_of(rows: QuerySet, columns: tuple[str, ...], text: str = "") -> list[str]:
    """The names of the first rows that match, one more than MAX_CHOICES if there are as many."""
    matches = matching(rows, text, columns) if text else rows
    return [name for _, name in some(matches, columns, MAX_CHOICES + 1)]


def values_of(caller: Caller, column: str, text: str = "") -> list[str]:
    """The usernames or workspaces that begin with the text, in the same number."""
    return lists.distinct(caller, column, MAX_CHOICES + 1, text)


def nodes_of(run: Run, text: str = "") -> list[str]:
    """The nodes of a run that have states and whose name contains the text, in the same number."""
    order = run.version.plan.order if run.version else sorted(run.node_counts)
    names = [node for node in order if node in run.node_counts and text in node]
    return names[: MAX_CHOICES + 1]


def _graphs(request: HttpRequest, text: str) -> list[str]:
    return names_of(Graph.objects.visible_to(caller_of(request)), IN_NAMESPACE, text)


def _runnable(request: HttpRequest, text: str) -> list[str]:
    return names_of(runnable_graphs(caller_of(request)), IN_NAMESPACE, text)


def _datasets(request: HttpRequest, text: str) -> list[str]:
    """Those of the namespace of a graph (`?graph=`)."""
    graphs = Graph.objects.visible_to(caller_of(request))
    graph = graphs.filter(pk=parse_id(request.GET.get("graph")) or 0).first()
    if graph is None:
        raise Http404
    return names_of(Dataset.objects.filter(namespace=graph.namespace_id), IN_NAMESPACE, text)


def _namespaces(request: HttpRequest, text: str) -> list[str]:
    return names_of(visible_namespaces(caller_of(request)), ("name",), text)


def _startable(request: HttpRequest, text: str) -> list[str]:
    return names_of(startable_namespaces(caller_of(request)), ("name",), text)


def _usernames(request: HttpRequest, text: str) -> list[str]:
    return values_of(caller_of(request), "username", text)


def _workspaces(request: HttpRequest, text: str) -> list[str]:
    return values_of(caller_of(request), "workspace", text)


def _runs(request: HttpRequest, text: str) -> list[str]:
    """The ids of runs that begin with the text, read from the index of ids."""
    runs = Run.objects.visible_to(caller_of(request)).filter(run_id__gte=text).order_by("run_id")
    run_ids = runs.values_list("run_id", flat=True)[: MAX_CHOICES + 1]
    return [run_id for run_id in dict.fromkeys(run_ids) if run_id.startswith(text)]


def _nodes(request: HttpRequest, text: str) -> list[str]:
    """Those of a run (`?run=`)."""
    return nodes_of(run_for(request, parse_id(request.GET.get("run")) or 0), text)


KINDS: dict[str, Callable[[HttpRequest, str], list[str]]] = {
    "graphs": _graphs,
    "runnable": _runnable,
    "datasets": _datasets,
    "namespaces": _namespaces,
    "startable": _startable,
    "usernames": _usernames,
    "workspaces": _workspaces,
    "nodes": _nodes,
    "runs": _runs,
}
