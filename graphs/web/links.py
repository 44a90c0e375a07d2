"""The way back to the page from which a form was opened."""

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme


def is_page(path: str) -> bool:
    """Whether the path is below the admin or below the pages of State Manager."""
    return path.startswith((pages_root(), reverse("admin:index")))


def pages_root() -> str:
    """The path that all pages of State Manager are below: `/admin/` in this project."""
    return reverse("run_manager").removesuffix("run-manager/")


def back_to(request: HttpRequest, default: str) -> str:
    """The URL in the parameter `back`, if it is a page of this site's admin.

    A value that starts with "?" is a query of the default page. Any other value leads to the
    default page, so that a forged link can't lead to another site. `default` is a URL name.
    """
    target = request.POST.get("back") or request.GET.get("back", "")
    if target.startswith("?"):
        return f"{reverse(default)}{target}"
    is_own_page = is_page(target) and url_has_allowed_host_and_scheme(target, allowed_hosts=None)
    return target if is_own_page else reverse(default)
