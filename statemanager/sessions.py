"""Sessions of the admin: when they were used last, when they end, and the page of one's own.

A session notes its login and its last use in itself, so that there is no second table to keep.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.contrib import auth, messages
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models.functions import Now
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from graphs.auth import api_keys, refresh_tokens
from graphs.definition import time_zones
from graphs.models import ApiKey, clock
from graphs.models.querysets import ApiKeyQuerySet
from graphs.web.page_guard import caller_of, in_admin
from runs.models import AuditEntry
from statemanager import user_time
from statemanager.logins import client_address

LOGIN, USED = "login", "used"  # what a session holds
NOTED_EVERY = 60  # seconds between two notes of a session's use
MAX_SESSIONS = 5000  # the newest ones, among which a person's own are looked for
MAX_AGENT = 200


def _seconds() -> int:
    """The time of the database, which all hosts share, as a session notes it."""
    return int(clock.estimate().timestamp())


@receiver(user_logged_in)
def note_login(request: HttpRequest, **_: object) -> None:
    if hasattr(request, "session"):
        request.session[LOGIN] = {
            "at": _seconds(),
            "from": client_address(request),
            "agent": request.headers.get("User-Agent", "")[:MAX_AGENT],
        }
        request.session[USED] = _seconds()


class SessionUse:
    """Notes the use of sessions, and ends those that were idle for SESSION_IDLE_MINUTES.

    What an open page asks for by itself is no use of a session.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if settings.SESSION_COOKIE_NAME in request.COOKIES and auth.SESSION_KEY in request.session:
            self._note(request)
        return self.get_response(request)

    def _note(self, request: HttpRequest) -> None:
        now = _seconds()
        idle = now - request.session.get(USED, now)
        if settings.SESSION_IDLE_MINUTES and idle > settings.SESSION_IDLE_MINUTES * 60:
            auth.logout(request)
        elif "Poll" not in request.headers and (idle > NOTED_EVERY or USED not in request.session):
            request.session[USED] = _seconds()


@dataclass(frozen=True)
class OwnSession:
    """A session as the page shows it. The page has `name` in place of the key, a credential."""

    key: str
    name: str
    is_this: bool
    since: datetime | None
    used: datetime | None
    address: str
    agent: str


def own_sessions(request: HttpRequest) -> Iterator[OwnSession]:
    """The sessions of the user, among the MAX_SESSIONS that end last."""
    sessions = Session.objects.filter(expire_date__gt=Now()).order_by("-expire_date")
    for session in sessions[:MAX_SESSIONS].iterator():
        data = session.get_decoded()
        if data.get(auth.SESSION_KEY) != str(request.user.pk):
            continue
        login = data.get(LOGIN) or {}
        yield OwnSession(
            key=session.session_key,
            name=hashlib.sha256(session.session_key.encode()).hexdigest()[:16],
            is_this=session.session_key == request.session.session_key,
            since=_moment(login.get("at")),
            used=_moment(data.get(USED)),
            address=login.get("from", ""),
            agent=login.get("agent", ""),
        )


def _moment(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


@require_http_methods(["GET", "POST"])
def own_access(request: HttpRequest) -> HttpResponse:
    """The user's own time zone, sessions and API keys. A POST changes the zone, ends a session or a
    key, or ends all other sessions.
    """
    if request.method == "POST":
        try:
            messages.success(request, _change(request))
        except ValueError as error:
            messages.error(request, f"{error}.")
        return redirect("own_access")
    context = in_admin(
        request,
        "Your account",
        sessions=list(own_sessions(request)),
        keys=_own_keys(request),
        idle_minutes=settings.SESSION_IDLE_MINUTES,
        chosen_zone=user_time.chosen(request),
        zones=sorted(time_zones.names()),
    )
    return render(request, "admin/own_access.html", context)


def _own_keys(request: HttpRequest) -> ApiKeyQuerySet:
    keys = ApiKey.objects.usable().filter(created_by=request.user.pk)
    return keys.order_by("-pk")


@transaction.atomic
def _change(request: HttpRequest) -> str:
    """Do what the form says. Returns the sentence that says what was done."""
    form = request.POST
    if "time_zone" in form:
        return user_time.choose(request, form["time_zone"])
    if "key" in form:
        keys = _own_keys(request).filter(prefix=form["key"])
        return f"Revoked keys: {api_keys.revoke(keys, caller_of(request))}."
    if "session" in form:
        return f"Ended sessions: {_end_sessions(request, form['session'])}."
    return f"Ended sessions: {end_others(request)}."


def end_others(request: HttpRequest) -> int:
    """End the user's other sessions and refresh tokens. Returns how many sessions these were."""
    refresh_tokens.end_tokens(request.user)  # type: ignore[arg-type]  # a login is required
    return _end_sessions(request)


def _end_sessions(request: HttpRequest, name: str | None = None) -> int:
    """End the user's other sessions, or the one with this name."""
    others = [
        session
        for session in own_sessions(request)
        if not session.is_this and name in (None, session.name)
    ]
    for session in others:
        Session.objects.filter(pk=session.key).delete()
        detail = f"session from {session.address or 'unknown'}"
        AuditEntry.objects.record_global(caller_of(request), "end_session", detail)
    return len(others)
