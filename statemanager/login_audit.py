"""Audit entries of logins, failed logins and logouts, in the admin and at `/token`."""

from collections.abc import Mapping

from axes.handlers.proxy import AxesProxyHandler
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from graphs.auth.callers import caller_named
from runs.models import AuditEntry
from runs.models.audit import FAILED_LOGIN
from statemanager.logins import account, client_address, is_api


@receiver(user_logged_in)
def logged_in(request: HttpRequest, user: AbstractBaseUser, **_: object) -> None:
    _record(request, "login", user.get_username())


@receiver(user_logged_out)
def logged_out(request: HttpRequest, user: AbstractBaseUser | None, **_: object) -> None:
    if user is not None:
        _record(request, "logout", user.get_username())


@receiver(user_login_failed)
def login_failed(
    credentials: Mapping[str, str], request: HttpRequest | None = None, **_: object
) -> None:
    """Record a failure. What is refused during the pause after too many of them is only counted,
    so that nobody fills the table.
    """
    if request is not None and AxesProxyHandler.is_allowed(request, dict(credentials)):
        _record(request, FAILED_LOGIN, account(request, credentials))


def _record(request: HttpRequest, action: str, username: str) -> None:
    caller = caller_named(username, "api" if is_api(request) else "page")
    AuditEntry.objects.record_global(caller, action, f"from {client_address(request)}")
