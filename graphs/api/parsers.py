"""JSON bodies, read strictly: what a database or a later reader would choke on is refused here, with a reason."""

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from graphs.definition import errors, payloads

MAX_DEPTH = 100


class NotJsonBody(ParseError):
    """Text that is no JSON; `offset` says where it stops being so, `reason` why."""

    def __init__(self, error: json.JSONDecodeError) -> None:
        super().__init__(f"The body is no JSON: {error}")
        self.offset, self.reason = error.pos, error.msg


class StrictJSONParser(BaseParser):
    """UTF-8 JSON without NaN, NUL, lone surrogates, absurd numbers or absurd nesting."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        data = stream.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        if len(data) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise errors.TooLarge(
                f"The body may have {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes."
            )
        try:
            value = json.loads(
                data.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite
            )
        except UnicodeDecodeError:
            raise ParseError("The body is not UTF-8.") from None
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None
        except json.JSONDecodeError as error:
            raise NotJsonBody(error) from None
        except ValueError as error:
            raise ParseError(f"The body is no JSON: {error}") from None
        if _depth(value) > MAX_DEPTH:
            raise ParseError(f"The body is nested deeper than {MAX_DEPTH} levels.")
        try:
            payloads.dump(value, settings.DATA_UPLOAD_MAX_MEMORY_SIZE * 2)
        except payloads.NotJson as error:
            raise ParseError(f"The body can't be stored: {error}.") from None
        return value


class AnyTypeJSONParser(StrictJSONParser):
    """Reads JSON whatever the request calls it (`curl -d` says that it is a form)."""

    media_type = "*/*"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:30]} is too large")
    return value


def _depth(value: Any) -> int:
    """How deeply lists and objects are nested; counted level by level, so that no depth can break it."""
    depth, level = 0, [value]
    while level := [
        item
        for each in level
        if isinstance(each, dict | list)
        for item in (each.values() if isinstance(each, dict) else each)
    ]:
        depth += 1
        if depth > MAX_DEPTH:
            break
    return depth
