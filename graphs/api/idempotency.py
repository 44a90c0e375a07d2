"""`Idempotency-Key` on POST (draft-ietf-httpapi-idempotency-key-header-07).

A repeated request gets the first answer and does nothing again. The answer is recorded in the
transaction that does the work, so that a process that dies leaves either both or neither. A repeat
that arrives during the first request finds its row locked (on SQLite it waits, because there is one
writer). Refusals aren't recorded: they changed nothing.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils.datastructures import MultiValueDict
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.types import Json
from graphs.models import IdempotencyKey

MAX_ANSWER = 1_000_000  # characters
MAX_KEY = 255  # characters
RUN_ID_MEMBERS = ("run_id", "thread_id", "id")  # what the APIs call a run's id
Handler = Callable[..., Response]
Prepared = Callable[[], AbstractContextManager[None]]


def answer_once(handler: Handler, caller: Caller, prepared: Prepared) -> Handler:
    """The handler of a POST, which answers a repeated request as it answered the first one.

    `prepared` surrounds the transaction. A repeated request doesn't enter it.
    """

    def answer(request: Request, *args: str, **kwargs: str) -> Response:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            with prepared():
                return handler(request, *args, **kwargs)
        if not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
            raise errors.Malformed(
                f"An Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters."
            )
        digest = _digest(request)
        identity = {"caller": _name(caller), "key": key}
        IdempotencyKey.objects.bulk_create(
            [IdempotencyKey(**identity, digest=digest)], ignore_conflicts=True
        )
        answered = IdempotencyKey.objects.filter(**identity, status__isnull=False).exists()
        with nullcontext() if answered else prepared():
            return _answer(caller, identity, digest, lambda: handler(request, *args, **kwargs))

    return answer


def _answer(
    caller: Caller, identity: dict[str, str], digest: str, work: Callable[[], Response]
) -> Response:
    with transaction.atomic():
        unlocked = IdempotencyKey.objects.select_for_update(skip_locked=True)
        record = unlocked.filter(**identity).first()
        if record is None:
            raise errors.Busy(
                "A request with this Idempotency-Key is still being answered. "
                "Repeat it in a moment."
            )
        if record.status is not None:
            return _recorded_answer(record, digest, _rights_digest(caller))

        response = work()
        if response.status_code < 400:
            _record(record, response, digest, _rights_digest(caller))
        return response


def _record(record: IdempotencyKey, response: Response, digest: str, rights: str) -> None:
    text = JSONRenderer().render(response.data).decode() or "null"
    record.digest = digest
    record.rights = rights
    record.status = response.status_code
    record.run_id = _run_id(response.data)
    record.answer = text if _may_be_stored(text, response.data) else ""
    record.location = str(response.headers.get("Location", ""))[:500]
    record.save()


def _recorded_answer(record: IdempotencyKey, digest: str, rights: str) -> Response:
    if record.digest != digest:
        raise errors.Malformed(
            "This Idempotency-Key was used with another request. Use a new key for a new request."
        )
    if record.rights != rights:
        raise errors.Forbidden(
            "Your rights have changed since this request was answered. Request the result itself."
        )
    if not record.answer:
        raise errors.Conflict(
            "The request with this Idempotency-Key was done, but its answer isn't available: "
            "it was too large to store, about several runs, or its run was deleted."
        )
    headers = {"Idempotency-Replayed": "true"}
    if record.location:
        headers["Location"] = record.location
    return Response(json.loads(record.answer), record.status, headers=headers)


def _may_be_stored(text: str, answer: Json) -> bool:
    """An answer about several runs is not stored: it would outlive the first that is deleted."""
    return len(text) <= MAX_ANSWER and len(_runs_of(answer)) <= 1


def _runs_of(answer: Json) -> list[Json]:
    """The runs that an answer lists under `runs`."""
    runs = answer.get("runs") if isinstance(answer, dict) else None
    return runs if isinstance(runs, list) else []


def _run_id(answer: Json) -> str:
    """The id of the run that an answer is about; empty if there is none."""
    runs = _runs_of(answer)
    if len(runs) == 1:
        answer = runs[0]
    if not isinstance(answer, dict):
        return ""
    for name in RUN_ID_MEMBERS:
        value = answer.get(name)
        if isinstance(value, str) and value:
            return value[:200]
    return ""


def _name(caller: Caller) -> str:
    return f"key {caller.key}" if caller.key else f"user {getattr(caller.user, 'pk', None)}"


def _rights_digest(caller: Caller) -> str:
    namespaces = None if caller.namespaces is None else sorted(caller.namespaces)
    within = sorted(
        (namespace, sorted(rights)) for namespace, rights in caller.namespace_rights.items()
    )
    rights = (sorted(caller.scopes), namespaces, sorted(caller.rights), within)
    return hashlib.sha256(repr(rights).encode()).hexdigest()


def _digest(request: Request) -> str:
    digest = hashlib.sha256()
    start = (str(request.method).encode(), request.get_full_path().encode())
    for part in (*start, *_body(request)):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _body(request: Request) -> Iterator[bytes]:
    """The body; for a form its fields and files, without holding the files in memory."""
    if not request.content_type.startswith("multipart/"):
        yield request._request.body
        return
    form = request.data
    if not isinstance(form, MultiValueDict):  # a JSON body with the content type of a form
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
