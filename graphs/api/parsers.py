"""JSON bodies, parsed strictly: what a database or a later reader can't handle is refused here."""

import json
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from graphs.definition import errors, payloads
from graphs.definition.types import Json

MAX_DEPTH = 100


class NotJsonBody(ParseError):
    """The body isn't JSON; `offset` is the place of the error and `reason` describes it."""

    def __init__(self, error: json.JSONDecodeError) -> None:
        super().__init__(f"The body is not JSON: {error}")
        self.offset = error.pos
        self.reason = error.msg


class StrictJSONParser(BaseParser):
    """UTF-8 JSON without NaN, NUL, lone surrogates, and numbers or nesting beyond all limits.

    A byte order mark is skipped.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Json:
        """Raises TooLarge, or ParseError with the reason."""
        max_bytes = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        data = stream.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise errors.TooLarge(f"The body may have at most {max_bytes:,} bytes.")
        value = _load(data)
        if payloads.is_deeper(value, MAX_DEPTH):
            raise ParseError(f"The body is nested deeper than {MAX_DEPTH} levels.")
        try:
            payloads.dump(value, max_bytes * 2)
        except payloads.NotJson as error:
            raise ParseError(f"The body can't be stored: {error}.") from None
        return value


class AnyTypeJSONParser(StrictJSONParser):
    """Parses JSON whatever the content type: `curl -d` declares its body to be a form."""

    media_type = "*/*"


def _load(data: bytes) -> Json:
    try:
        return payloads.parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ParseError("The body is not UTF-8.") from None
    except RecursionError:
        raise ParseError("The body is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise NotJsonBody(error) from None
    except ValueError as error:
        raise ParseError(f"The body is not JSON: {error}") from None
