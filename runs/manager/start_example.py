"""Starting a run of an example from the page of graphs."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from graphs.definition import errors
from graphs.editor.named_form import ExampleForm
from graphs.services import examples
from graphs.web.messages import message_of
from graphs.web.page_guard import caller_of, staff_page
from runs.actions.examples import start


@require_POST
@staff_page("start")
def start_example(request: HttpRequest, name: str) -> HttpResponse:
    """Add the example to the user's graphs and start a run of it; with `open`, only show it."""
    caller = caller_of(request)
    form = ExampleForm(caller, request.POST)
    try:
        if not form.is_valid():
            raise errors.Forbidden("Choose a namespace in which you may start runs.")
        namespace = form.cleaned_data["namespace"]
        if "open" in request.POST:
            return redirect("flow", examples.put(name, namespace, caller).pk)
        run = start(name, namespace, caller, request.POST.get("run_id", ""))
    except errors.StateManagerError as error:
        messages.error(request, message_of(error))
        return redirect("flow_home")
    messages.success(request, format_html("{} was started.", run))
    return redirect("run_page", run.pk)
