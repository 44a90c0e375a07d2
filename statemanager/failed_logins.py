"""The failed logins of django-axes, by the clock of the database.

Each host compares failures that others have stored. By its own clock, one that is an hour ahead
would end every pause at once.
"""

from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.db.models import Q
from django.http import HttpRequest

from graphs.models import clock
from statemanager import logins


class FailedLogins(AxesDatabaseHandler):
    """Dates each login. django-axes has done so before, by the clock of the host."""

    def is_allowed(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        _date(request)
        if logins.is_flood(request):
            # The middleware of django-axes answers.
            request.axes_locked_out = True  # type: ignore[attr-defined]
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

    def clean_expired_user_attempts(
        self, request: HttpRequest | None = None, credentials: dict[str, Any] | None = None
    ) -> int:
        """Delete the failures of this account whose pause is over, and the old ones of all others.

        django-axes would delete those of all accounts after the pause of this one, and with them
        what an address has done.
        """
        now = clock.estimate()
        of_account = Q(attempt_time__lt=now - logins.pause(request))
        if request is not None:
            of_account &= Q(
                username=logins.account(request, credentials),
                ip_address=logins.client_address(request),
            )
        old = Q(attempt_time__lt=now - max(logins.MAX_PAUSE, logins.ADDRESS_PAUSE))
        return int(AccessAttempt.objects.filter(of_account | old).delete()[0])

    def user_logged_in(
        self, sender: object, request: HttpRequest, user: object, **more: Any
    ) -> None:
        _date(request)
        super().user_logged_in(sender, request, user, **more)


def _date(request: HttpRequest | None) -> None:
    if request is not None:
        request.axes_attempt_time = clock.estimate()  # type: ignore[attr-defined]
