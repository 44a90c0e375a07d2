"""Nodes that talk to other services: http.request and mail.send."""

import json
from typing import Annotated, Literal

from django.core.mail import EmailMessage
from pydantic import Field
from typing_extensions import TypedDict

from graphs.definition import expressions
from graphs.definition.types import Json
from graphs.models import clock
from graphs.nodes import http_client
from graphs.nodes.base import Context, NodeFailed, RunAgain, node

Condition = Annotated[
    str,
    Field(
        description="A CEL expression over `status`, `headers` and `body`.",
        json_schema_extra={"format": "cel"},
        max_length=expressions.MAX_LENGTH,
    ),
]


class HttpOutput(TypedDict):
    status: int
    headers: dict[str, str]
    body: Json


class MailOutput(TypedDict):
    sent: int


@node("http.request", waits=True)
def http_request(
    ctx: Context,
    url: str,
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET",
    headers: dict[str, str] = {},  # noqa: B006  (pydantic copies it)
    body: Json = None,
    timeout: Annotated[float, Field(gt=0, le=300)] = 30,
    fail_on_error: bool = True,
    until: Condition = "",
    every: Annotated[float, Field(ge=1, le=86400)] = 10,
    patience: Annotated[float, Field(gt=0, le=7 * 86400)] = 3600,
) -> HttpOutput:
    """Make an HTTP request.

    A JSON response becomes a value, and any other response becomes text. The Idempotency-Key header
    is the same for all attempts. A response with status 400 or above fails the node, unless
    `fail_on_error` is false. `timeout` is in seconds, for the whole request with its redirects.

    With `until`, such as `body.status == "done"`, the request is repeated every `every` seconds
    until the condition is true. The node fails if that takes longer than `patience` seconds.
    """
    started = ctx.once("began", None, _now) if until else 0.0
    output = _request(ctx, url, method, headers, body, timeout, fail_on_error)
    if until and not _is_true(until, output):
        if _now() - started > patience:
            raise NodeFailed(f"{until!r} did not become true within {patience:g} s")
        raise RunAgain(every)

    return output


def _now() -> float:
    """The database's time: another host may have begun."""
    return clock.now().timestamp()


def _is_true(condition: str, output: HttpOutput) -> bool:
    try:
        return expressions.compiled(condition).is_true(
            status=output["status"], headers=output["headers"], body=output["body"]
        )
    except (expressions.BadExpression, expressions.EvaluationFailed) as error:
        raise NodeFailed(f"until: {error}") from None


def _request(
    ctx: Context,
    url: str,
    method: str,
    headers: dict[str, str],
    body: Json,
    timeout: float,
    fail_on_error: bool,
) -> HttpOutput:
    """The response of the last address that redirects lead to."""
    given = {name.lower() for name in headers}
    defaults = _default_headers(ctx, body).items()
    sent_headers = {name: value for name, value in defaults if name.lower() not in given} | headers
    content = _encoded(body, sent_headers)
    response = http_client.send(method, url, sent_headers, content, timeout)
    request = f"{response.method} {response.url}"
    ctx.log(f"{request}: {response.status}")
    if response.is_damaged:
        ctx.log(f"{request}: the body has bytes that are not {response.charset}", "warning")
    if fail_on_error and response.status >= 400:
        raise NodeFailed(f"{request} answered {response.status}: {response.text[:200]}")
    return HttpOutput(status=response.status, headers=response.headers, body=response.decoded())


def _default_headers(ctx: Context, body: Json) -> dict[str, str]:
    headers = {
        "User-Agent": "StateManager",
        "Accept": "application/json, */*",
        "Idempotency-Key": ctx.idempotency_key,
    }
    if body is not None and not isinstance(body, str):
        headers["Content-Type"] = "application/json"
    return headers


def _encoded(body: Json, headers: dict[str, str]) -> bytes | None:
    """The bytes to send: text in the charset of its Content-Type, any other value as JSON.

    Raises NodeFailed for text that its charset can't express.
    """
    if body is None:
        return None
    if not isinstance(body, str):
        return json.dumps(body).encode()
    types = [value for name, value in headers.items() if name.lower() == "content-type"]
    charset = http_client.charset_of(types[0] if types else "")
    try:
        return body.encode(charset)
    except UnicodeEncodeError as error:
        text = body[error.start : error.start + 10]
        raise NodeFailed(f"the body can't be sent as {charset}, beginning at {text!r}") from None
    except (LookupError, ValueError):
        raise NodeFailed(f"the Content-Type names an unknown charset, {charset!r}") from None


@node("mail.send", waits=True, side_effects=True)
def send_mail(ctx: Context, to: list[str], subject: str, body: str) -> MailOutput:
    """Send an email with the mail settings of Django.

    The email is sent once, even if the state runs again.
    """

    def send() -> int:
        one_line_subject = subject.replace("\n", " ").replace("\r", " ")
        return EmailMessage(one_line_subject, body, to=to).send()

    args = {"to": to, "subject": subject, "body": body}
    return MailOutput(sent=ctx.once("mail", args, send))
