"""The application's errors. Each knows its HTTP status and says in one sentence (or a list) what is wrong; `graphs.api.errors` renders them."""

from collections.abc import Mapping
from typing import Any


class StateManagerError(Exception):
    """The family; `extra` holds members that the answer carries beside the sentence, `headers` what stands above it."""

    status = 400
    headers: Mapping[str, str] = {}

    def __init__(self, detail: Any, **extra: Any) -> None:
        super().__init__(detail)
        self.detail, self.extra = detail, extra


class NotFound(StateManagerError):
    """Unknown, or another tenant's: the answer is the same."""

    status = 404


class Forbidden(StateManagerError):
    """The caller may not do this here."""

    status = 403


class Gone(StateManagerError):
    """It was deleted; the answer says when and by whom."""

    status = 410


class Conflict(StateManagerError):
    """A taken name or an illegal move; `allowed` lists what would be legal."""

    status = 409


class Busy(Conflict):
    """Somebody is at it at this moment; the same again in a second will be right."""

    headers = {"Retry-After": "1"}


class PreconditionFailed(StateManagerError):
    """Somebody else changed it meanwhile."""

    status = 412


class PreconditionRequired(StateManagerError):
    """A change must say what it is a change of."""

    status = 428


class TooLarge(StateManagerError):
    """A payload or file over its limit."""

    status = 413


class Malformed(StateManagerError):
    """Input that can't be understood; `errors` lists every problem with its place."""

    status = 422


class InvalidGraph(StateManagerError):
    """A graph that can't run; `errors` lists its problems."""

    status = 400
