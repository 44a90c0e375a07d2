"""The application's errors. `graphs.api.errors` turns them into responses."""

from collections.abc import Mapping

from graphs.definition.types import Json


class StateManagerError(Exception):
    """The base class of all errors that a caller can cause.

    `detail` is a sentence that explains the error to people, or a list of them. `extra` holds
    further members of the response body. `status` and `headers` are those of the response.
    """

    status = 400
    headers: Mapping[str, str] = {}

    def __init__(self, detail: Json, **extra: Json) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class NotFound(StateManagerError):
    """Raised when something does not exist, or belongs to a namespace the caller can't see."""

    status = 404


class Forbidden(StateManagerError):
    """Raised when the caller lacks the right or the scope for an action."""

    status = 403


class Gone(StateManagerError):
    """Raised when a run was deleted. The response says when and by whom."""

    status = 410


class Conflict(StateManagerError):
    """Raised when a name is taken, or when the current status does not allow an action.

    The member `allowed` lists what is allowed instead.
    """

    status = 409


class Busy(Conflict):
    """Raised when another request holds what this one needs. Repeating it in a second helps."""

    headers = {"Retry-After": "1"}


class PreconditionFailed(StateManagerError):
    """Raised when a change is based on an older state of what it changes."""

    status = 412


class PreconditionRequired(StateManagerError):
    """Raised when a change does not say which state it is based on."""

    status = 428


class TooLarge(StateManagerError):
    """Raised when a payload or a file exceeds its limit."""

    status = 413


class Malformed(StateManagerError):
    """Raised when input can't be understood. The member `errors` lists every problem."""

    status = 422


class InvalidGraph(StateManagerError):
    """Raised when a graph can't run. The member `errors` lists every problem."""

    status = 400
