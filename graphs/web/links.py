"""The way back to where a form was opened."""

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme


def back_to(request: HttpRequest, otherwise: str) -> str:
    """The page that the form names, if it is one of ours below /admin/; else the page of this name."""
    asked = request.POST.get("back") or request.GET.get("back", "")
    if asked.startswith("?"):
        return f"{reverse(otherwise)}{asked}"
    ours = asked.startswith("/admin/") and url_has_allowed_host_and_scheme(
        asked, allowed_hosts=None
    )
    return asked if ours else reverse(otherwise)
