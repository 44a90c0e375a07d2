"""Finding what the URL or the query of a page names."""

import uuid

from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from graphs.web.page_guard import caller_of
from runs.models import Run


def run_for(request: HttpRequest, pk: int) -> Run:
    """The run of a page. Raises Http404 if it doesn't exist or the user may not see it."""
    runs = Run.objects.visible_to(caller_of(request))
    related = ("graph__current", "version", "namespace", "dataset", "parent")
    return get_object_or_404(runs.select_related(*related), pk=pk)


def uuid_of(text: str) -> str:
    """The id of a state as the query gives it; "" for anything that is not a UUID."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""
