"""`/healthz` says whether the site answers, and `/readyz` whether it can run graphs."""

from django.db import connection
from django.http import HttpRequest, JsonResponse
from rest_framework.request import Request

from graphs.nodes.base import registry
from runs.engine import claim, wakeup
from runs.models import Cluster
from statemanager import __version__
from statemanager.api_docs import Closable


def healthz(request: HttpRequest) -> JsonResponse:
    """200 while the server and the database answer. DatabaseAway turns an error into 503."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok", "version": __version__})


class ReadyView(Closable):
    setting = "PUBLIC_READYZ"
    schema = None

    def get(self, request: Request) -> JsonResponse:
        """200 while a cluster is alive and has answered since its start, otherwise 503."""
        clusters = Cluster.objects.alive().answered().count()
        body = {
            "status": "ok" if clusters else "no cluster",
            "clusters": clusters,
            "hints": wakeup.waiting_hints(),
            "work_is_ready": claim.work_is_ready(registry),
        }
        return JsonResponse(body, status=200 if clusters else 503)


readyz = ReadyView.as_view()
