"""Is the site up (`/healthz`), and can it do its work (`/readyz`)?"""

from django.db import connection
from django.http import HttpRequest, JsonResponse

from graphs.nodes.base import registry
from runs.engine import claim, wakeup
from runs.models import Cluster


def healthz(request: HttpRequest) -> JsonResponse:
    """200 while the server answers and the database does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """200 while a cluster lives; 503 names what is missing."""
    alive = Cluster.objects.alive().count()
    body = {
        "status": "ok" if alive else "no cluster",
        "clusters": alive,
        "hints": wakeup.waiting_hints(),
        "work_is_ready": claim.work_is_ready(registry),
    }
    return JsonResponse(body, status=200 if alive else 503)
