"""The page of graphs: the list, a form that begins a new graph, and the examples."""

from django import forms
from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_GET, require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors, uuids
from graphs.definition.types import Definition, JsonObject
from graphs.editor import pasted
from graphs.editor.named_form import (
    ExampleForm,
    NamedForm,
    lacks_namespace,
    startable_namespaces,
)
from graphs.models import Graph
from graphs.models.draft import DraftChange
from graphs.services import drafts, examples
from graphs.web.page_guard import accepts_uploads, caller_of, in_admin, staff_page
from graphs.web.schema_forms import AREA

GRAPHS = 50  # graphs on a page
PROBLEMS = slice(5, 50)  # those that the form lists after the first ones, which the message holds


class NewForm(NamedForm):
    """A new graph: an empty one, or one from pasted JSON or a file. `definition` is what it had."""

    kind = "graph"
    definition: Definition | None = None

    json = forms.CharField(
        required=False,
        label="JSON",
        widget=forms.Textarea(attrs=AREA),
        help_text="A graph or an Exosphere graph template. Leave it empty for an empty graph.",
    )
    file = forms.FileField(required=False, label="… or a JSON file")

    def clean(self) -> JsonObject:
        """Parse the definition here, so that its problems are shown beside its field."""
        cleaned = super().clean() or self.cleaned_data
        file = cleaned.get("file")
        field = "file" if file else "json"
        try:
            text = (
                file.read(pasted.MAX_LENGTH + 1).decode("utf-8-sig")
                if file
                else cleaned.get("json")
            )
            self.definition = pasted.parse_definition(text) if text else None
        except UnicodeDecodeError:
            self.add_error(field, "The file is not UTF-8 text.")
        except errors.StateManagerError as error:
            self.add_error(field, str(error))
            for problem in error.extra.get("errors", [])[PROBLEMS]:
                self.add_error(field, f"{problem['path']}: {problem['message']}")
        return cleaned


@require_GET
@staff_page()
def home(request: HttpRequest) -> HttpResponse:
    """The graphs that the user may see, and the ways to make one."""
    return _page(request, NewForm(caller_of(request)))


def _page(request: HttpRequest, form: NewForm, status: int = 200) -> HttpResponse:
    caller = caller_of(request)
    search = request.GET.get("search", "").strip()
    page = Paginator(_graphs(caller, search), GRAPHS).get_page(request.GET.get("page"))
    context = in_admin(
        request,
        "Graphs",
        page=page,
        search=search,
        form=form,
        examples=_examples(caller),
        missing_packages=examples.missing_packages(),
        may_draw=startable_namespaces(caller).exists(),
        lacks_namespace=lacks_namespace(),
        startable={graph.namespace_id for graph in page if caller.can("start", graph.namespace_id)},
    )
    return render(request, "flow/home.html", context, status=status)


def _examples(caller: Caller) -> list[tuple[examples.Example, str, SafeString]]:
    """The examples, each with a new run id and the field of its namespace.

    By the run id, a double click starts one run. The fields are rendered from one form, so that
    their choices are read once.
    """
    field = str(ExampleForm(caller)["namespace"])
    rows = []
    for example in examples.EXAMPLES.values():
        of_example = field.replace("id_namespace", f"id_namespace_{example.name}")
        labelled = of_example.replace(ExampleForm.LABEL, escape(f"Namespace for {example.title}"))
        rows.append((example, uuids.dashed(uuids.uuid7()), mark_safe(labelled)))  # noqa: S308
    return rows


def _graphs(caller: Caller, search: str) -> QuerySet[Graph]:
    changes = DraftChange.objects.filter(graph=OuterRef("pk"))
    graphs = Graph.objects.visible_to(caller).with_version().annotate(has_draft=Exists(changes))
    if search:
        graphs = graphs.filter(name__any_case=search)
    return graphs.order_by("namespace__name", "name").defer("current__definition")


@accepts_uploads
@staff_page("start")
@require_POST
def new_graph(request: HttpRequest) -> HttpResponse:
    """Begin a graph as an unpublished draft, and open it."""
    form = NewForm(caller_of(request), request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, form, 422)
    namespace, name = form.cleaned_data["namespace"], form.cleaned_data["name"]
    try:
        graph = drafts.begin(namespace, name, caller_of(request), form.definition, "Import")
    except errors.StateManagerError as error:
        form.add_error("name", str(error))
        return _page(request, form, 422)
    return redirect("flow", graph.pk)
