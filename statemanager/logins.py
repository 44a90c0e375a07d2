"""Failed logins: how long an account has to wait for its next try, and what it is told.

django-axes counts the failures of each account from each address, in the admin and at `/token`
alike. So nobody can lock another person out. An address from which many logins fail, whatever the
accounts are, is refused as a whole for a while.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from graphs.api.problem_details import refusal
from graphs.models import clock

MAX_PAUSE = timedelta(hours=1)
ADDRESS_FAILURES = 50  # from one address, for all accounts together
ADDRESS_PAUSE = timedelta(minutes=10)  # in which they are counted, and for which it is refused
MAX_USERNAME = 255  # characters


def account(request: HttpRequest, credentials: Mapping[str, str] | None) -> str:
    """The account that a login is for, cut to what the column of django-axes holds."""
    username = (credentials or {}).get("username") or request.POST.get("username") or ""
    return str(username)[:MAX_USERNAME]


def client_address(request: HttpRequest) -> str:
    """The address that a request comes from.

    Behind a proxy it is the last one in X-Forwarded-For, which the proxy has added. The client may
    have made up the others. If that is no IP address, it is the proxy's.
    """
    if settings.BEHIND_PROXY:
        forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        with suppress(ValueError):
            return str(ip_address(forwarded))
    return str(request.META.get("REMOTE_ADDR", ""))


def is_api(request: HttpRequest) -> bool:
    """Whether a login is one for tokens of the API, not one in the admin."""
    return request.path_info.startswith("/token")


def pause(request: HttpRequest | None) -> timedelta:
    """For how long the account that logs in is refused after its last failure.

    The pause is a minute when the limit is reached and doubles with each further failure.
    """
    failures = settings.AXES_FAILURE_LIMIT
    if request is not None:
        credentials = getattr(request, "axes_credentials", None)
        attempts = AccessAttempt.objects.filter(
            username=account(request, credentials),
            ip_address=client_address(request),
        )
        failures = max([failures, *attempts.values_list("failures_since_start", flat=True)])
    doublings = min(failures - settings.AXES_FAILURE_LIMIT, 10)
    return min(timedelta(minutes=2**doublings), MAX_PAUSE)


def is_flood(request: HttpRequest) -> bool:
    """Whether too many logins have failed from the address of the request."""
    recent = AccessAttempt.objects.filter(
        ip_address=client_address(request), attempt_time__gte=clock.estimate() - ADDRESS_PAUSE
    )
    failures = recent.aggregate(sum=Sum("failures_since_start", default=0))["sum"]
    return bool(failures >= ADDRESS_FAILURES)


def locked_out(
    request: HttpRequest, response: HttpResponse | None, credentials: dict[str, str] | None
) -> HttpResponse:
    """The answer to a login that is refused, right or wrong, until the pause is over."""
    wait_for = max(pause(request), ADDRESS_PAUSE) if is_flood(request) else pause(request)
    minutes = round(wait_for.total_seconds() / 60)
    message = f"Too many failed logins. Try again in {minutes} minute{'s' if minutes > 1 else ''}."
    wait = str(60 * minutes)
    if is_api(request):
        return refusal(request, 429, message, {"Retry-After": wait})
    context = {**admin.site.each_context(request), "title": "Login", "message": message}
    page = render(request, "admin/locked_out.html", context, status=429)
    page["Retry-After"] = wait
    return page
