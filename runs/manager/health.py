"""The findings of `manage.py doctor` as a page."""

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from graphs.web.page_guard import caller_of, in_admin, staff_page
from runs.health import doctor
from runs.models import Cluster

CLUSTERS = 50


@require_GET
@staff_page()
def health(request: HttpRequest) -> HttpResponse:
    """What is wrong with the installation, and its clusters."""
    if "admin" not in caller_of(request).scopes:
        raise PermissionDenied("Only administrators may see the health of the installation.")
    context = in_admin(
        request,
        "Health",
        findings=doctor.examine(),
        clusters=Cluster.objects.order_by("-seen_at")[:CLUSTERS],
    )
    return render(request, "run_manager/health.html", context)
