"""What all viewsets of `/v0` share.

The path names a namespace, pydantic reads the bodies, and refusals are just `{"detail": ...}`.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from rest_framework.request import Request

from graphs.api.authentication import ApiKeyAuthentication
from graphs.api.parsers import AnyTypeJSONParser
from graphs.api.schema import Responses
from graphs.api.v0.schemas import Refusal
from graphs.api.viewsets import ViewSet
from graphs.auth.namespaces import ensure_namespace
from graphs.definition import errors
from graphs.definition.names import parse_id
from graphs.definition.types import Json, JsonObject
from graphs.models import Graph, Namespace, known_namespace
from graphs.models.querysets import GraphQuerySet
from graphs.services.masking import MASK

Body = TypeVar("Body", bound=BaseModel)
REFUSAL_CODES = (400, 401, 403, 404, 405, 409, 410, 411, 413, 422, 429, 503)
REFUSALS: Responses = dict.fromkeys(REFUSAL_CODES, Refusal)
MAX_LIMIT = 1000
SECRET_MEMBERS = ("secrets", "value")


class V0ViewSet(ViewSet):
    """A viewset below `/v0/namespace/{ns}`.

    `name` is the namespace's name. `namespace` is None if a caller that sees all namespaces names
    one that doesn't exist yet.
    """

    authentication_classes = [ApiKeyAuthentication]
    parser_classes = [AnyTypeJSONParser]
    plain_errors = True
    ignores_unknown_members = True  # programs written for the protocol send some
    namespace: Namespace | None
    name: str

    def initial(self, request: Request, *args: str, **kwargs: str) -> None:
        super().initial(request, *args, **kwargs)
        if "ns" not in kwargs:
            return
        self.name = kwargs["ns"]
        self.namespace = known_namespace(self.name)
        is_hidden = self.namespace is None or not self.caller.sees(self.namespace.pk)
        if is_hidden and self.caller.namespaces is not None:
            raise errors.NotFound(f"There is no namespace {self.name[:100]!r} that this key opens.")

    @property
    def own_namespace(self) -> Namespace:
        """The namespace to write into; it is created if it doesn't exist."""
        self.namespace = ensure_namespace(self.name, self.caller)
        return self.namespace

    def body(self, model: type[Body]) -> Body:
        """The request's body. Raises Malformed with the list of pydantic's errors."""
        if not int(self.request.META.get("CONTENT_LENGTH") or 0):
            raise errors.Malformed(
                [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}]
            )
        return validate(model, self.request.data, "body")

    def graph(self, graphs: GraphQuerySet | None = None) -> Graph:
        """The graph that the path names. Raises NotFound."""
        if graphs is None:
            graphs = Graph.objects.with_version()
        name = self.kwargs["graph"]
        graph = None
        if self.namespace is not None:
            named = graphs.filter(namespace=self.namespace, name=name.replace("\x00", ""))
            graph = named.first()
        if graph is None:
            raise errors.NotFound(
                f"Graph not found: there is no graph {name[:100]!r} "
                f"in namespace {self.name[:100]!r}."
            )
        return graph


def read_limit(request: Request, maximum: int = MAX_LIMIT, default: int | None = None) -> int:
    """The query's `limit`; without one the default, or else the maximum."""
    text = request.query_params.get("limit", str(default or maximum))
    return read_number(text, "limit", 1, maximum)


def validate(model: type[Body], value: Json, place: str) -> Body:
    """Raises Malformed with the list of pydantic's errors, which `/v0` answers with 422."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [_problem(details, place) for details in error.errors(include_url=False)]
        raise errors.Malformed(problems) from None


def _problem(error: Mapping[str, Json], place: str) -> JsonObject:
    problem = {
        "type": error["type"],
        "loc": [place, *error["loc"]],
        "msg": error["msg"],
        "input": _without_secrets(error["loc"], error["input"]),
    }
    context = error.get("ctx")
    if context:
        problem["ctx"] = {
            key: str(value) if isinstance(value, Exception) else value
            for key, value in context.items()
        }
    return problem


def _without_secrets(place: Sequence[str | int], value: Json) -> Json:
    """The wrong input as far as it isn't secret."""
    if place and place[0] in SECRET_MEMBERS:
        return MASK
    is_body = not place[1:]
    if is_body and isinstance(value, dict) and "secrets" in value:
        return {**value, "secrets": MASK}
    return value


def read_number(text: str, name: str, minimum: int, maximum: int, place: str = "query") -> int:
    """A whole number from the path or the query. Raises Malformed."""
    number = parse_id(text)
    if number is not None and minimum <= number <= maximum:
        return number
    problem = {
        "type": "int_parsing" if number is None else "out_of_range",
        "loc": [place, name],
        "msg": f"{name} must be a whole number from {minimum} to {maximum}",
        "input": text[:100],
    }
    raise errors.Malformed([problem])
