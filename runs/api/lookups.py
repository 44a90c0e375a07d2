"""Finding the run that a path names, and answering an unchanged one with 304."""

import uuid
from collections.abc import Iterable
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from graphs.auth.callers import Caller
from graphs.definition import errors
from runs.models import Run, Tombstone
from runs.models.querysets import RunQuerySet


def run_of(caller: Caller, request: Request, run_id: str, runs: RunQuerySet | None = None) -> Run:
    """The run with this id in the namespaces that the caller sees; `?namespace=` chooses when several have it."""
    found = list(named(caller, request, run_id, runs)[:2])
    if not found:
        _gone(caller, run_id)
        raise errors.NotFound(f"There is no run {run_id[:200]!r}.")
    if len(found) > 1:
        names = (
            Run.objects.visible_to(caller)
            .filter(run_id=run_id)
            .order_by("namespace__name")
            .values_list("namespace__name", flat=True)
        )
        raise errors.Conflict(
            f"Several namespaces have a run {run_id!r}; add ?namespace= with one of them.",
            allowed=list(names),
        )
    return found[0]


def _gone(caller: Caller, run_id: str) -> None:
    """Raises Gone for the id of a run that was deleted lately, in a namespace that the caller sees."""
    if tombstone := Tombstone.objects.of(run_id).visible_to(caller).first():
        raise errors.Gone(tombstone.sentence)


def named(caller: Caller, request: Request, run_id: str, runs: RunQuerySet | None = None) -> Any:
    found = (
        (runs if runs is not None else Run.objects.for_wire())
        .visible_to(caller)
        .filter(run_id=run_id.replace("\x00", ""))
    )
    namespace = request.query_params.get("namespace")
    return found.filter(namespace__name=namespace.replace("\x00", "")) if namespace else found


def revision_of(rows: Iterable[tuple[int, int]]) -> str:
    """A weak entity tag over (run, revision) pairs."""
    return 'W/"' + ".".join(f"{pk}-{revision}" for pk, revision in rows) + '"'


def unchanged(request: Request, tag: str) -> bool:
    known = [
        each.strip().removeprefix("W/")
        for each in request.headers.get("If-None-Match", "").split(",")
    ]
    return tag.removeprefix("W/") in known


def tagged(body: Any, tag: str) -> Response:
    return Response(body, headers={"ETag": tag, "Cache-Control": "private, no-cache"})


def not_modified(tag: str) -> Response:
    return Response(status=304, headers={"ETag": tag})


def state_id(text: str) -> uuid.UUID:
    """A state's id. Raises NotFound for what can't be one."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise errors.NotFound(f"There is no state {text[:50]!r}.") from None
