"""The project's URLs and a plain view, whose speed is what server and database allow."""

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import path

from runs.models import Run
from statemanager import urls

COLUMNS = (
    "run_id",
    "status",
    "success_count",
    "pending_count",
    "errored_count",
    "retried_count",
    "created_at",
)


def bare(request: HttpRequest) -> JsonResponse:
    """Answer with 20 rows, as they come from the database."""
    rows: Any = Run.objects.order_by("-id").values(*COLUMNS)[:20]
    return JsonResponse({"runs": list(rows)})


urlpatterns = [path("bare", bare), *urls.urlpatterns]
