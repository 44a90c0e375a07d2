"""Access to the pages of both apps, and the context that all of them need."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec
from urllib.parse import urlsplit

from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse

from graphs.auth.callers import RIGHT_LABELS, RIGHTS, Caller, caller_of_user
from graphs.web.ttl_cache import cached

Params = ParamSpec("Params")
View = Callable[Concatenate[HttpRequest, Params], HttpResponseBase]
Context = dict[str, object]


def staff_page(right: str = "view") -> Callable[[View[Params]], View[Params]]:
    """Decorate a page that requires a right in at least one namespace.

    Anonymous users are redirected to the login page. Users who may not view any runs are redirected
    to the start page. Users without the right get a 403.

    The view itself must still check the right in the namespace of what it shows or changes.
    """

    def decorate(view: View[Params]) -> View[Params]:
        @wraps(view)
        def guarded(
            request: HttpRequest, /, *args: Params.args, **kwargs: Params.kwargs
        ) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return _to_login(request)
            if _has_nul(request):
                return HttpResponseBadRequest("A request can't contain NUL characters.")
            caller = caller_of(request)
            if not caller.may("view"):
                return redirect("admin:index")
            if not caller.may(right):
                raise PermissionDenied(f"You may not {RIGHT_LABELS[right]}.")
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def accepts_uploads(view: View[Params]) -> View[Params]:
    """Decorate a page to which files of up to MAX_UPLOAD_BYTES may be sent.

    Such a file is received only after the page has been asked for by a GET, and has answered that
    the client may use it: with 200, or with 405 if the page only takes POSTs.
    """
    view.accepts_uploads = True  # type: ignore[attr-defined]
    return view


def _to_login(request: HttpRequest) -> HttpResponseBase:
    """Redirect to the login page, and from there back to this page or to the form that was sent.

    A request of htmx gets a 401 instead. It would follow the redirect, insert the login page where
    a part of the page was expected, and take a form for saved.
    """
    if not request.headers.get("HX-Request"):
        if request.method == "POST":
            from graphs.web import interrupted  # it has a page, which this module guards

            return interrupted.to_login(request)
        return redirect_to_login(request.get_full_path())
    response = HttpResponse("You are logged out.", status=401)
    if request.method == "GET":
        page = urlsplit(request.headers.get("HX-Current-URL", reverse("admin:index"))).path
        response["HX-Redirect"] = redirect_to_login(page).url
    return response


def _has_nul(request: HttpRequest) -> bool:
    """Whether a parameter contains a NUL character, which PostgreSQL can't store or look up."""
    values = [*request.GET.values(), *request.POST.values()]
    return any("\x00" in value for value in values if isinstance(value, str))


def caller_of(request: HttpRequest) -> Caller:
    """The user of a page as a caller. It is made once per request."""
    caller: Caller | None = getattr(request, "_caller", None)
    if caller is None:
        caller = caller_of_user(request.user, "page")
        request._caller = caller  # type: ignore[attr-defined]
    return caller


def may_of(request: HttpRequest) -> set[str]:
    """The rights that the user has in at least one namespace."""
    caller = caller_of(request)
    return {right for right in RIGHTS if caller.may(right)}


def in_admin(request: HttpRequest, title: str, **context: object) -> Context:
    """The context of a page: the admin's, the title, and the rights of the user as `may`."""
    return {
        **cached(("admin", request.user.pk), lambda: _admin_context(request)),
        "title": title,
        "may": may_of(request),
        **context,
    }


def _admin_context(request: HttpRequest) -> Context:
    """The admin's context with its menu rendered as `menu`.

    It is the same on all pages of a user, and making it takes longer than reading a page of runs,
    so `in_admin` caches it.
    """
    context = {**admin.site.each_context(request), "is_nav_sidebar_enabled": False}
    menu = render_to_string("shell/_administration.html", context, request)
    return {**context, "menu": menu}
