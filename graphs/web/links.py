"""The way back to the page from which a form was opened."""

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme


def back_to(request: HttpRequest, default: str) -> str:
    """The URL in the parameter `back`, if it is a page below /admin/ of this site.

    A value that starts with "?" is a query of the default page. Any other value leads to the
    default page, so that a forged link can't lead to another site. `default` is a URL name.
    """
    target = request.POST.get("back") or request.GET.get("back", "")
    if target.startswith("?"):
        return f"{reverse(default)}{target}"
    is_own_page = target.startswith("/admin/") and url_has_allowed_host_and_scheme(
        target, allowed_hosts=None
    )
    return target if is_own_page else reverse(default)
