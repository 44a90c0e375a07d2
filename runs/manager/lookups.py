"""Finding the run that a page is about."""

import uuid

from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from graphs.web.page_guard import caller_of
from runs.models import Run


def run_for(request: HttpRequest, pk: int) -> Run:
    """The run that a page is about, if the user may see it."""
    return get_object_or_404(
        Run.objects.visible_to(caller_of(request)).select_related(
            "graph__current", "version", "namespace", "dataset", "parent"
        ),
        pk=pk,
    )


def uuid_of(text: str) -> str:
    """A state's id from a query; "" for what can't be one."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""
