"""Finds the run that a path names, and answers 304 while it hasn't changed."""

import uuid
from collections.abc import Iterable

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.types import Json
from runs.models import Run, Tombstone
from runs.models.querysets import RunQuerySet

MAX_NAMESPACES = 50  # that a refusal lists
NAMESPACE = OpenApiParameter(
    "namespace", str, description="Chooses the run when several namespaces have one of this id."
)


def run_of(caller: Caller, request: Request, run_id: str, runs: RunQuerySet | None = None) -> Run:
    """The run with this id in the namespaces that the caller sees.

    `?namespace=` chooses one when several namespaces have it; without it, Conflict lists them.
    Raises NotFound for an unknown run and Gone for one that was deleted recently.
    """
    matches = list(runs_named(caller, request, run_id, runs)[:2])
    if not matches:
        _refuse_deleted(caller, run_id)
        raise errors.NotFound(f"There is no run {run_id[:200]!r}.")
    if len(matches) > 1:
        named = Run.objects.visible_to(caller).filter(run_id=run_id)
        namespaces = named.order_by("namespace__name").values_list("namespace__name", flat=True)
        raise errors.Conflict(
            f"Several namespaces have a run {run_id!r}. Choose one with ?namespace=.",
            allowed=list(namespaces[:MAX_NAMESPACES]),
        )
    return matches[0]


def runs_named(
    caller: Caller, request: Request, run_id: str, runs: RunQuerySet | None = None
) -> RunQuerySet:
    if runs is None:
        runs = Run.objects.for_wire()
    named = runs.visible_to(caller).filter(run_id=without_nul(run_id))
    namespace = request.query_params.get("namespace")
    return named.filter(namespace__name=without_nul(namespace)) if namespace else named


def _refuse_deleted(caller: Caller, run_id: str) -> None:
    """Raises Gone for a run that was deleted recently in a namespace that the caller sees."""
    tombstone = Tombstone.objects.of(run_id).visible_to(caller).first()
    if tombstone:
        raise errors.Gone(tombstone.sentence)


def without_nul(text: str) -> str:
    """PostgreSQL refuses NUL in texts, so that no stored text has one."""
    return text.replace("\x00", "")


def revision_tag(revisions: Iterable[tuple[int, int]]) -> str:
    """A weak entity tag over (run, revision) pairs."""
    return 'W/"' + ".".join(f"{pk}-{revision}" for pk, revision in revisions) + '"'


def is_unchanged(request: Request, tag: str) -> bool:
    """Whether If-None-Match names the tag."""
    known_tags = request.headers.get("If-None-Match", "").split(",")
    return tag.removeprefix("W/") in [known.strip().removeprefix("W/") for known in known_tags]


def tagged(body: Json, tag: str) -> Response:
    return Response(body, headers={"ETag": tag, "Cache-Control": "private, no-cache"})


def not_modified(tag: str) -> Response:
    return Response(status=304, headers={"ETag": tag})


def state_id(text: str) -> uuid.UUID:
    """A state's id. Raises NotFound for text that can't be one."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise errors.NotFound(f"There is no state {text[:50]!r}.") from None
