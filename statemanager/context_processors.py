"""Values that every template can use."""

from django.http import HttpRequest

from statemanager import __version__


def version(request: HttpRequest) -> dict[str, str]:
    """`statemanager_version`, which the footer of the admin shows."""
    return {"statemanager_version": __version__}
