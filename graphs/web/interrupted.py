"""Forms that were sent after their session had ended. After the login they can be sent again.

The form is kept in a signed cookie of the browser that sent it, so that nothing is stored for
somebody who isn't logged in. It is sent again only when the user says so, with the rights that the
user has then.
"""

from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from graphs.web.links import back_to, is_page
from graphs.web.page_guard import in_admin, staff_page

COOKIE = "statemanager_form"
SALT = "graphs.web.interrupted"
MAX_COOKIE = 3500  # characters; browsers keep cookies of 4,096
MAX_AGE = 15 * 60  # seconds
NOT_KEPT = ("csrfmiddlewaretoken",)


def to_login(request: HttpRequest) -> HttpResponseBase:
    """Redirect a POST to the login page, and from there to what it wanted or where it came from."""
    cookie = _signed(request)
    if not cookie:
        messages.warning(request, "You were logged out, so nothing was changed. Try again.")
        return redirect_to_login(_origin(request))
    response = redirect_to_login(reverse("send_again"))
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=MAX_AGE,
        path=reverse("send_again"),
        secure=request.is_secure(),
        httponly=True,
        samesite="Lax",
    )
    return response


def _signed(request: HttpRequest) -> str:
    """The form for the cookie; "" if it has files or secrets, or is too large."""
    if not _is_read(request) or any("password" in name.lower() for name in request.POST):
        return ""
    fields = [
        (name, value)
        for name, values in request.POST.lists()
        if name not in NOT_KEPT
        for value in values
    ]
    form = [request.get_full_path(), _origin(request), fields]
    cookie = signing.dumps(form, salt=SALT, compress=True)
    return cookie if len(cookie) <= MAX_COOKIE else ""


def _is_read(request: HttpRequest) -> bool:
    """Whether the body is looked at. Uploads of somebody who isn't logged in are not."""
    return request.content_type == "application/x-www-form-urlencoded"


def _origin(request: HttpRequest) -> str:
    """The page that the form was on, as far as the form or the browser says so."""
    if _is_read(request) and "back" in request.POST:
        return back_to(request, "run_manager")
    referer = urlsplit(request.headers.get("Referer", ""))
    if referer.netloc != request.get_host() or not is_page(referer.path):
        return reverse("admin:index")
    return f"{referer.path}?{referer.query}" if referer.query else referer.path


@require_GET
@staff_page()
def send_again(request: HttpRequest) -> HttpResponse:
    """Ask whether the form that the browser kept is to be sent again."""
    try:
        kept = signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=MAX_AGE)
    except signing.BadSignature:
        messages.warning(request, "There is nothing to be sent again.")
        return redirect("admin:index")
    address, origin, fields = kept
    context = in_admin(
        request, "You were logged out", address=address, origin=origin, fields=fields
    )
    response = render(request, "admin/send_again.html", context)
    response.delete_cookie(COOKIE, path=request.path, samesite="Lax")
    return response
