"""Who may open the Run Manager, and what they may do there."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.loader import render_to_string

from graphs.auth.callers import RIGHT_LABELS, RIGHTS, Caller, caller_of_user
from graphs.web.ttl_cache import cached

View = Callable[..., HttpResponseBase]


def staff_page(right: str = "view") -> Callable[[View], View]:
    """Who is logged out is sent to the login, who sees no runs home; who lacks the right everywhere gets a 403.

    Whether a run may be touched is for the verbs to say: they know its namespace.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return _to_login(request)
            if _holds_nul(request):
                return HttpResponseBadRequest("A request holds no NUL characters.")
            caller = caller_of(request)
            if not caller.may("view"):
                return redirect("/")
            if not caller.may(right):
                raise PermissionDenied(f"You may not {RIGHT_LABELS[right]}.")
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def _to_login(request: HttpRequest) -> HttpResponseBase:
    """To the login and back to the page. A script is told so: it would take the login for the part that it asked for, and think that it had saved."""
    if not request.headers.get("HX-Request"):
        return redirect_to_login(request.get_full_path())
    answer = HttpResponse("You are logged out.", status=401)
    if request.method == "GET":
        answer["HX-Redirect"] = redirect_to_login(
            urlsplit(request.headers.get("HX-Current-URL", "/admin/")).path
        ).url
    return answer


def _holds_nul(request: HttpRequest) -> bool:
    """PostgreSQL has no text with a NUL in it, and nobody means one."""
    return any(
        "\x00" in text
        for query in (request.GET, request.POST)
        for values in (query.values(),)
        for text in values
        if isinstance(text, str)
    )


def caller_of(request: Any) -> Caller:
    """The user of a page as the verbs know callers; asked for once a request."""
    if not hasattr(request, "_caller"):
        request._caller = caller_of_user(request.user, "page")
    caller: Caller = request._caller
    return caller


def may_of(request: HttpRequest) -> set[str]:
    """The rights that the user has somewhere."""
    caller = caller_of(request)
    return {right for right in RIGHTS if caller.may(right)}


def in_admin(request: HttpRequest, title: str, **context: Any) -> dict[str, Any]:
    """What every page needs: the admin's own context, its menu, and what the user may do (`may`)."""
    return {
        **cached(("admin", request.user.pk), lambda: _shared(request)),
        "title": title,
        "may": may_of(request),
        **context,
    }


def _shared(request: HttpRequest) -> dict[str, Any]:
    """Making and drawing the admin's menu takes longer than reading a page of runs; it is the same on all pages that are no model's."""
    context = admin.site.each_context(request)
    listed = {"app_list": context["available_apps"], "show_changelinks": False}
    return {**context, "menu": render_to_string("admin/app_list.html", listed, request)}
