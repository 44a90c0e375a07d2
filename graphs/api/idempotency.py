"""`Idempotency-Key` on POST (draft-ietf-httpapi-idempotency-key-header-07): a repeated request gets the first answer and does nothing again.

The answer is recorded in the transaction that does the work. So a process that dies leaves either both or neither, and a repeat that comes while the
first request is still at work finds its row locked (on SQLite it waits: there is one writer). Refusals are not kept: they changed nothing.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.models import IdempotencyKey

MAX_ANSWER = 1_000_000  # characters
Handler = Callable[..., Response]


def repeatable(handler: Handler) -> Handler:
    """A view's method that answers a repeat with what it answered first."""

    @wraps(handler)
    def once(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        if (key := request.headers.get("Idempotency-Key")) is None:
            return handler(view, request, *args, **kwargs)
        if not (0 < len(key) < 256 and key.isascii() and key.isprintable()):
            raise errors.Malformed("An Idempotency-Key has 1 to 255 printable ASCII characters.")
        return _answered(
            view.caller, key, _digest(request), lambda: handler(view, request, *args, **kwargs)
        )

    return once


def _answered(caller: Caller, key: str, digest: str, work: Callable[[], Response]) -> Response:
    mine = {"caller": _name(caller), "key": key}
    IdempotencyKey.objects.bulk_create(
        [IdempotencyKey(**mine, digest=digest)], ignore_conflicts=True
    )
    with transaction.atomic():
        row = IdempotencyKey.objects.select_for_update(skip_locked=True).filter(**mine).first()
        if row is None:
            raise errors.Busy(
                "A request with this Idempotency-Key is still being answered; repeat it in a moment."
            )
        if row.status is not None:
            return _again(row, digest, _rights(caller))
        answer = work()
        if answer.status_code < 400:
            text = JSONRenderer().render(answer.data).decode() or "null"
            row.digest, row.rights, row.status, row.answer = (
                digest,
                _rights(caller),
                answer.status_code,
                text if len(text) <= MAX_ANSWER else "",
            )
            row.run_id = _run_of(answer.data)
            row.location = str(answer.headers.get("Location", ""))[:500]
            row.save()
        return answer


def _again(row: IdempotencyKey, digest: str, rights: str) -> Response:
    if row.digest != digest:
        raise errors.Malformed(
            "This Idempotency-Key was used with another request; a new request needs a new key."
        )
    if row.rights != rights:
        raise errors.Forbidden(
            "What you may do has changed since this request was answered; ask for the result itself."
        )
    if not row.answer:
        raise errors.Conflict(
            "The request with this Idempotency-Key was done; its answer was too large to be kept, or its run was deleted."
        )
    headers = {
        "Idempotency-Replayed": "true",
        **({"Location": row.location} if row.location else {}),
    }
    return Response(json.loads(row.answer), row.status, headers=headers)


def _run_of(answer: Any) -> str:
    """The id of the run that an answer tells of, under the names that the APIs have for it."""
    found = (
        [answer.get(name) for name in ("run_id", "thread_id", "id")]
        if isinstance(answer, dict)
        else []
    )
    return next((each[:200] for each in found if isinstance(each, str) and each), "")


def _name(caller: Caller) -> str:
    return f"key {caller.key}" if caller.key else f"user {getattr(caller.user, 'pk', None)}"


def _rights(caller: Caller) -> str:
    seen = None if caller.namespaces is None else sorted(caller.namespaces)
    within = sorted(
        (namespace, sorted(rights)) for namespace, rights in caller.namespace_rights.items()
    )
    return hashlib.sha256(
        repr((sorted(caller.scopes), seen, sorted(caller.rights), within)).encode()
    ).hexdigest()


def _digest(request: Request) -> str:
    found = hashlib.sha256()
    for part in (str(request.method).encode(), request.get_full_path().encode(), *_body(request)):
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def _body(request: Request) -> Iterator[bytes]:
    """The body; of a form its fields and files, which are not held in memory."""
    if not request.content_type.startswith("multipart/"):
        yield request._request.body
        return
    form: Any = request.data
    if not hasattr(form, "lists"):  # JSON, whatever the header says
        yield JSONRenderer().render(form)
        return
    for name, values in sorted(form.lists()):
        for value in values:
            yield name.encode()
            if isinstance(value, UploadedFile):
                yield str(value.name).encode()
                yield from value.chunks()
                value.seek(0)
            else:
                yield str(value).encode()
