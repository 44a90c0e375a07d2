"""Where graphs begin: the list of them, a new one, one from a file or a paste, and the examples."""

from typing import Any

from django import forms
from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from graphs.auth.callers import Caller
from graphs.definition import errors, names, uuids
from graphs.editor import edit_forms
from graphs.models import Graph, Namespace
from graphs.models.draft import DraftChange
from graphs.services import drafts, examples
from graphs.web.page_guard import caller_of, in_admin, staff_page
from graphs.web.schema_forms import AREA

GRAPHS = 50


class NewForm(forms.Form):
    """A graph from nothing, from a paste or from a file."""

    name = forms.CharField(max_length=200)
    namespace = forms.ModelChoiceField(queryset=Namespace.objects.none(), empty_label=None)
    json = forms.CharField(
        required=False,
        label="JSON",
        widget=forms.Textarea(attrs=AREA),
        help_text="A graph, or a graph template of Exosphere; empty: nothing is drawn yet.",
    )
    file = forms.FileField(required=False, label="… or a JSON file")

    def __init__(self, caller: Caller, *args: Any) -> None:
        super().__init__(*args)
        self.fields["namespace"].queryset = startable_namespaces(caller)  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        try:
            return names.checked("graph", self.cleaned_data["name"])
        except errors.Malformed as error:
            raise forms.ValidationError(str(error)) from None

    def clean(self) -> dict[str, Any]:
        """The definition is read here, so that what is wrong with it is said beside it."""
        cleaned = super().clean() or self.cleaned_data
        file, self.definition = cleaned.get("file"), None
        field = "file" if file else "json"
        try:
            text = file.read(edit_forms.LARGEST + 1).decode() if file else cleaned.get("json")
            self.definition = edit_forms.parsed(text) if text else None
        except UnicodeDecodeError:
            self.add_error(field, "The file is no UTF-8 text.")
        except errors.StateManagerError as error:
            self.add_error(field, str(error))
            for problem in error.extra.get("errors", [])[5:50]:
                self.add_error(field, f"{problem['path']}: {problem['message']}")
        return cleaned


def startable_namespaces(caller: Caller) -> Any:
    """The namespaces in which the caller may store graphs."""
    return Namespace.objects.filter(
        pk__in=[
            space.pk
            for space in Namespace.objects.exclude(name="builtin")
            if caller.can("start", space.pk)
        ]
    ).order_by("name")


@require_GET
@staff_page()
def home(request: HttpRequest) -> HttpResponse:
    """The graphs that the user sees, and the ways to make one."""
    return _page(request, NewForm(caller_of(request)))


def _page(request: HttpRequest, form: NewForm, code: int = 200) -> HttpResponse:
    caller, search = caller_of(request), request.GET.get("search", "").strip()
    graphs = (
        Graph.objects.visible_to(caller)
        .with_version()
        .annotate(drawn=Exists(DraftChange.objects.filter(graph=OuterRef("pk"))))
        .order_by("namespace__name", "name")
    )
    found: Any = graphs.filter(name__icontains=search) if search else graphs
    page = Paginator(found.defer("current__definition"), GRAPHS).get_page(request.GET.get("page"))
    own = startable_namespaces(caller)
    context = {
        "page": page, "search": search, "form": form, "examples": [(example, uuids.dashed(uuids.uuid7())) for example in examples.EXAMPLES.values()],
        "spaces": own, "lacking": examples.missing_packages(),
        "may_start": {space.pk for space in own}, "usual": examples.NAMESPACE,
    }  # fmt: skip
    return render(request, "flow/home.html", in_admin(request, "Graphs", **context), status=code)


@require_POST
@staff_page("start")
def new_graph(request: HttpRequest) -> HttpResponse:
    """Begin a graph and open it. Nothing of it is published yet."""
    form = NewForm(caller_of(request), request.POST, request.FILES)
    if form.is_valid():
        try:
            graph = drafts.begin(
                form.cleaned_data["namespace"],
                form.cleaned_data["name"],
                caller_of(request),
                form.definition,
                "Import",
            )
        except errors.StateManagerError as error:
            form.add_error("name", str(error))
        else:
            return redirect("flow", graph.pk)
    return _page(request, form, 422)
