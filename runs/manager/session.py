"""The page of a session: its runs in the order in which they were created."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.models import Run

ROWS = 100


@require_GET
@staff_page()
def session_page(request: HttpRequest) -> HttpResponse:
    """The runs of the session that `?id=` names, as far as the user sees them."""
    session = request.GET.get("id", "")
    runs = Run.objects.visible_to(caller_of(request)).exclude(session_id="")
    runs = runs.filter(session_id=session).order_by("created_at", "id")
    shown = runs.select_related("namespace", "graph", "version").defer(
        "initial_data", "store", "data", "metadata", "sop", "error_message"
    )
    context = in_admin(
        request,
        f"Session {session}" if session else "Session",
        session=session,
        page=Paginator(shown, ROWS).get_page(request.GET.get("page")),
    )
    return render(request, "run_manager/session.html", context)
