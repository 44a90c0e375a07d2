"""The places of the site that its navigation leads to, as far as the user may see them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from graphs.auth.callers import Caller
from graphs.web.page_guard import caller_of
from graphs.web.ttl_cache import cached
from runs.queries import inbox

# Models that have pages of their own in the navigation.
TWINS = {"Run", "State", "Graph", "Dataset"}
COUNT_SECONDS = 5.0
App = dict[str, Any]  # as in Django's `available_apps`


@dataclass(frozen=True)
class Place:
    """A page, and where it is in the navigation. `below` is drawn below the place before it."""

    label: str
    url: str
    is_current: bool = False
    below: bool = False
    icon: str = ""
    count: str = ""


def places(request: HttpRequest) -> list[Place]:
    """The places that the user may see. The one that the request is in is current."""
    if not request.user.is_authenticated or not caller_of(request).may("view"):
        return _with_current([_place("Overview", "admin:index")], request.path)
    caller = caller_of(request)
    found = [
        _place("Overview", "admin:index"),
        replace(_place("Inbox", "run_inbox"), count=_questions(caller)),
        _place("Run Manager", "run_manager", icon="run_manager/_database_icon.html"),
        _place("Run States", "run_states", below=True),
        _place("Graphs", "flow_home"),
        _place("Schedules", "run_schedules"),
        _place("Templates", "run_templates"),
        _place("Datasets", "flow_datasets"),
        _place("Operations", "run_manager_operations"),
    ]
    if request.user.is_superuser:
        found.append(_place("Health", "run_health"))
    return _with_current(found, request.path)


def _questions(caller: Caller) -> str:
    """How many questions the caller may answer; "" for none."""
    assert caller.user is not None
    key = ("inbox", caller.user.pk)
    number = cached(key, lambda: inbox.count(caller), seconds=COUNT_SECONDS)
    if number >= inbox.MAX_COUNTED:
        return f"{inbox.MAX_COUNTED - 1}+"
    return str(number or "")


def _place(label: str, name: str, below: bool = False, icon: str = "") -> Place:
    return Place(label, reverse(name), below=below, icon=icon)


def _with_current(found: list[Place], path: str) -> list[Place]:
    """The same places, of which the one with the longest address that begins the path is current.

    The index is current only on its own page, because everything is below it.
    """
    index, *others = found
    around = [place for place in others if path.startswith(place.url)]
    current = max(around, key=lambda place: len(place.url), default=index)
    if current is index and path != index.url:
        return found
    return [replace(place, is_current=place is current) for place in found]


def without_places(apps: Iterable[App]) -> list[App]:
    """The apps of the admin's menu, without the models that have a place of their own."""
    left = [
        {**app, "models": [model for model in app["models"] if model["object_name"] not in TWINS]}
        for app in apps
    ]
    return [app for app in left if app["models"]]
