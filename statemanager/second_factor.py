"""The pages of the second factor: its set-up, and the login that asks for it."""

from base64 import b32encode
from collections.abc import Callable
from typing import Any

import django_otp
import segno
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_http_methods
from django_otp.plugins.otp_totp.models import TOTPDevice

from graphs.api.problem_details import refusal
from graphs.auth import second_factor
from graphs.web.page_guard import caller_of, in_admin
from runs.models import AuditEntry
from statemanager import sessions
from statemanager.middleware import is_api

WRONG_CODE = "This code is wrong or was used before. Try the next one in half a minute."
MISSING_CODE = "This account has a second factor. Enter a code of your authenticator app."
MISSING_FACTOR = "This site asks for a second factor. Set it up at /admin/access/second-factor/."


class LoginForm(AdminAuthenticationForm):
    """Asks for a code, which accounts with a second factor must give."""

    code = forms.CharField(
        label="Code",
        required=False,
        max_length=20,
        help_text="Only if you have set up a second factor.",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        user = self.get_user()
        if user is not None and second_factor.is_set_up(user):
            self._check(user, cleaned.get("code", ""))
        return cleaned

    def _check(self, user: AbstractUser, code: str) -> None:
        if not code:
            raise ValidationError(MISSING_CODE, code="code_required")
        device = second_factor.verify(user, code)
        if device is None:
            raise ValidationError(WRONG_CODE, code="code_invalid")
        user.otp_device = device  # type: ignore[attr-defined]  # django-otp notes it in the session


class SecondFactorRequired:
    """With SECOND_FACTOR_REQUIRED, sessions without a second factor reach only its set-up."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not settings.SECOND_FACTOR_REQUIRED or not _lacks_factor(request):
            return self.get_response(request)
        if is_api(request.path_info):
            return refusal(request, 403, MISSING_FACTOR)
        return HttpResponseRedirect(reverse("second_factor"))


def _lacks_factor(request: HttpRequest) -> bool:
    if settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return False
    open_pages = {reverse(name) for name in ("second_factor", "admin:logout", "admin:login")}
    is_open = request.path in open_pages or request.path.startswith(settings.STATIC_URL)
    user: Any = request.user
    return not is_open and user.is_authenticated and not user.is_verified()


@require_http_methods(["GET", "POST"])
def own_second_factor(request: HttpRequest) -> HttpResponse:
    """Set up the user's own second factor, or remove it with a code."""
    user: AbstractUser = request.user  # type: ignore[assignment]  # a login is required
    action, code = request.POST.get("action", ""), request.POST.get("code", "")
    if action == "remove":
        _remove(request, user, code)
    elif action and second_factor.is_set_up(user):  # whoever has only the session can't replace it
        messages.error(request, "Remove your second factor before you set up another one.")
    elif action == "begin":
        second_factor.begin(user)
    elif action == "confirm":
        return _confirm(request, user, code)
    return redirect("second_factor") if action else _page(request, user)


def _confirm(request: HttpRequest, user: AbstractUser, code: str) -> HttpResponse:
    """The page with the recovery codes, which are shown once; other sessions end."""
    confirmed = second_factor.confirm(user, code)
    if confirmed is None:
        messages.error(request, WRONG_CODE)
        return redirect("second_factor")
    device, codes = confirmed
    django_otp.login(request, device)
    with transaction.atomic():
        AuditEntry.objects.record_global(caller_of(request), "second_factor", "set up")
        sessions.end_others(request)
    return _page(request, user, codes=codes)


def _remove(request: HttpRequest, user: AbstractUser, code: str) -> None:
    if second_factor.verify(user, code) is None:
        messages.error(request, WRONG_CODE)
        return
    with transaction.atomic():
        second_factor.remove(user)
        AuditEntry.objects.record_global(caller_of(request), "second_factor", "removed")
    messages.success(request, "Your second factor was removed.")


def _page(request: HttpRequest, user: AbstractUser, **context: Any) -> HttpResponse:
    begun = second_factor.begun(user)
    if begun:
        context |= {"key": b32encode(begun.bin_key).decode(), "picture": _picture(begun)}
    context |= {
        "is_set_up": second_factor.is_set_up(user),
        "required": settings.SECOND_FACTOR_REQUIRED,
    }
    in_page = in_admin(request, "Second factor", **context)
    return render(request, "admin/second_factor.html", in_page)


def _picture(device: TOTPDevice) -> str:
    """The QR code that authenticator apps read, as SVG."""
    code = segno.make(device.config_url, micro=False)
    return mark_safe(code.svg_inline(scale=5, dark="#000", light="#fff", title="QR code"))  # noqa: S308
