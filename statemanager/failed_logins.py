"""The failed logins of django-axes, by the clock of the database.

Each host compares failures that others have stored. By its own clock, one that is an hour ahead
would end every pause at once.
"""

from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from django.http import HttpRequest

from graphs.models import clock
from statemanager import logins


class FailedLogins(AxesDatabaseHandler):
    """Dates each login. django-axes has done so before, by the clock of the host."""

    def is_allowed(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        _date(request)
        if logins.is_flood(request):
            request.axes_locked_out = True  # type: ignore[attr-defined]  # answered by its middleware
            return False
        return bool(super().is_allowed(request, credentials))

    def user_login_failed(
        self,
        sender: object,
        credentials: dict[str, Any],
        request: HttpRequest | None = None,
        **more: Any,
    ) -> None:
        _date(request)
        super().user_login_failed(sender, credentials, request, **more)

    def user_logged_in(
        self, sender: object, request: HttpRequest, user: object, **more: Any
    ) -> None:
        _date(request)
        super().user_logged_in(sender, request, user, **more)


def _date(request: HttpRequest | None) -> None:
    if request is not None:
        request.axes_attempt_time = clock.estimate()  # type: ignore[attr-defined]
