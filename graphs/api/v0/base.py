"""What all views of `/v0` share: the namespace in the path, bodies read by pydantic, and refusals that are just `{"detail": …}`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from django.db.models import QuerySet
from pydantic import BaseModel, ValidationError
from rest_framework.request import Request

from graphs.api.authentication import ApiKeyAuthentication
from graphs.api.base import View
from graphs.api.parsers import AnyTypeJSONParser
from graphs.api.v0.schemas import Refusal
from graphs.definition import errors, names
from graphs.definition.names import parse_id
from graphs.models import Graph, Namespace, known_namespace
from graphs.services import secrets

Body = TypeVar("Body", bound=BaseModel)
REFUSALS: dict[Any, Any] = dict.fromkeys(
    (400, 401, 403, 404, 405, 409, 410, 411, 413, 422, 429, 503), Refusal
)
MAX_NAMES = 1000


class V0View(View):
    """A view below `/v0/namespace/{ns}`. `self.namespace` is None where a caller who sees all namespaces names one that isn't there yet."""

    authentication_classes = [ApiKeyAuthentication]
    parser_classes = [AnyTypeJSONParser]
    plain_errors = True
    namespace: Namespace | None
    name: str

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if "ns" not in kwargs:
            return
        self.name = kwargs["ns"]
        self.namespace = known_namespace(self.name)
        hidden = self.namespace is None or not self.caller.sees(self.namespace.pk)
        if hidden and self.caller.namespaces is not None:
            raise errors.NotFound(f"There is no namespace {self.name[:100]!r} that this key opens.")

    @property
    def own_namespace(self) -> Namespace:
        """The namespace to write into; it is made when it isn't there."""
        self.namespace, _ = Namespace.objects.get_or_create(
            name=names.checked("namespace", self.name)
        )
        return self.namespace

    def body(self, model: type[Body]) -> Body:
        """The request's body. Raises Malformed with pydantic's list of errors, which is the protocol's."""
        return read(model, self.request)

    def graph(self, name: str, graphs: QuerySet[Graph] | None = None) -> Graph:
        found = (graphs if graphs is not None else Graph.objects.with_version()).filter(
            namespace=self.namespace, name=name.replace("\x00", "")
        )
        if self.namespace is None or (graph := found.first()) is None:
            raise errors.NotFound(
                f"Graph not found: there is no graph {name[:100]!r} in namespace {self.name[:100]!r}."
            )
        return graph

    def limit(self, most: int = MAX_NAMES, default: int | None = None) -> int:
        return whole(self.request.query_params.get("limit", str(default or most)), "limit", 1, most)


def read(model: type[Body], request: Request) -> Body:
    if not int(request.META.get("CONTENT_LENGTH") or 0):
        raise errors.Malformed(
            [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}]
        )
    return validated(model, request.data, "body")


def validated(model: type[Body], value: Any, place: str) -> Body:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise errors.Malformed(
            [_as_json(each, place) for each in error.errors(include_url=False)]
        ) from None


def _as_json(error: Mapping[str, Any], place: str) -> dict[str, Any]:
    found = {
        "type": error["type"],
        "loc": [place, *error["loc"]],
        "msg": error["msg"],
        "input": _shown(error["loc"], error["input"]),
    }
    if context := error.get("ctx"):
        found["ctx"] = {
            key: str(value) if isinstance(value, Exception) else value
            for key, value in context.items()
        }
    return found


def _shown(place: Sequence[Any], value: Any) -> Any:
    """What was wrong, as far as it is no secret."""
    if place and place[0] in ("secrets", "value"):
        return secrets.MASK
    return (
        {**value, "secrets": secrets.MASK}
        if isinstance(value, dict) and "secrets" in value and not place[1:]
        else value
    )


def whole(text: str, name: str, least: int, most: int, place: str = "query") -> int:
    """A whole number from a path or a query. Raises Malformed."""
    value = parse_id(text)
    if value is None or not least <= value <= most:
        raise errors.Malformed(
            [
                {
                    "type": "int_parsing" if value is None else "out_of_range",
                    "loc": [place, name],
                    "msg": f"{name} is a whole number from {least} to {most}",
                    "input": text[:100],
                }
            ]
        )
    return value
