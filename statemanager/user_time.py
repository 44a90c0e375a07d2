"""Times on pages are in the zone of the user: the one that they chose, else that of the browser.

A script writes the browser's zone into a cookie. The REST API always answers in UTC.
"""

from collections.abc import Callable
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from graphs.definition import time_zones
from graphs.models import UserTimeZone
from graphs.web.links import is_page
from graphs.web.page_guard import caller_of
from runs.models import AuditEntry

COOKIE = "browser_time_zone"
CHOSEN = "time_zone"  # what a session holds


class UserTime:
    """Activates the user's zone for pages."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.get_response(request)
        finally:
            timezone.deactivate()

    def process_view(self, request: HttpRequest, view: Callable[..., object], *_: object) -> None:
        is_api = hasattr(view, "cls")  # as Django REST framework marks its views
        if is_page(request.path) and not is_api:
            timezone.activate(_zone_of(request))


def _zone_of(request: HttpRequest) -> ZoneInfo:
    chosen = request.session.get(CHOSEN) or request.COOKIES.get(COOKIE, "")
    return ZoneInfo(chosen if chosen in time_zones.names() else settings.TIME_ZONE)


@receiver(user_logged_in)
def remember(request: HttpRequest, user: AbstractBaseUser, **_: object) -> None:
    """Put the zone that the user chose into the session, where each page looks for it."""
    if hasattr(request, "session"):
        row = UserTimeZone.objects.filter(user=user.pk).first()
        request.session[CHOSEN] = row.name if row else ""


def chosen(request: HttpRequest) -> str:
    """The zone that the user chose; "" for that of the browser."""
    return str(request.session.get(CHOSEN) or "")


def choose(request: HttpRequest, name: str) -> str:
    """Show times in this zone from now on, or in that of the browser. Returns what was done.

    Raises ValueError if there is no such zone.
    """
    name = name.strip()
    if name:
        time_zones.check(name)
        UserTimeZone.objects.update_or_create(
            user=request.user,  # type: ignore[misc]  # a login is required
            defaults={"name": name},
        )
    else:
        UserTimeZone.objects.filter(user=request.user.pk).delete()
    request.session[CHOSEN] = name
    AuditEntry.objects.record_global(caller_of(request), "set_time_zone", name or "browser")
    return f"Times are shown in {name or 'the time zone of your browser'}."
