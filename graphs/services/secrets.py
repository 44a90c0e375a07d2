"""Secrets of graphs: encrypted at rest by Fernet with a list of keys of their own (SECRETS_KEYS), the first of which encrypts.

`rotate` writes every secret anew with the first key, after which the others may go. `Mask` takes the values out of what is stored of the
nodes that may read them.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from graphs.definition import errors, names
from graphs.models import Graph, Secret

MASK = "•••"
SHORTEST_MASKED = 8  # shorter values are words that stand in other texts, too
BATCH = 500


def _cipher() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.SECRETS_KEYS])


def encrypt(value: str) -> str:
    return _cipher().encrypt(value.encode()).decode()


def replace(graph: Graph, values: Mapping[str, str]) -> None:
    """Make these the secrets of the graph's template, instead of those of its former one; others stay, and an unchanged value keeps its row.

    Call inside the transaction that changes the graph.
    """
    stored = {secret.name: secret for secret in graph.secrets.all()}
    graph.secrets.filter(by_template=True).exclude(name__in=values).delete()
    for name, value in values.items():
        if name not in stored or not _holds(stored[name], value):
            put(graph, name, value, by_template=True)


def put(graph: Graph, name: str, value: str, by_template: bool = False) -> None:
    """Set one secret. Raises Malformed for an empty value or a bad name."""
    if not value:
        raise errors.Malformed(f"The secret {name!r} is empty.")
    name = names.checked("secret", name)
    former = (
        Secret.objects.filter(graph=graph, name=name).values_list("token", flat=True).first() or ""
    )
    found = {
        "token": encrypt(value),
        "former": former,
        "updated_at": timezone.now(),
        "by_template": by_template,
    }
    Secret.objects.update_or_create(graph=graph, name=name, defaults=found)


def reveal(version_id: int, wanted: Iterable[str]) -> dict[str, str]:
    """The values of these secrets of a version's graph, as far as they are set. Raises Conflict when none of the keys opens one."""
    return {
        secret.name: _open(secret)
        for secret in Secret.objects.filter(graph__versions=version_id, name__in=list(wanted))
    }


def _open(secret: Secret) -> str:
    return _decrypt(secret.token, secret.name)


def _decrypt(token: str, name: str) -> str:
    try:
        return _cipher().decrypt(token.encode()).decode()
    except InvalidToken:
        raise errors.Conflict(
            f"The secret {name!r} was encrypted with a key that is not among SECRETS_KEYS."
        ) from None


def _holds(secret: Secret, value: str) -> bool:
    """Whether the secret has this value; one that can't be opened has none."""
    try:
        return _open(secret) == value
    except errors.Conflict:
        return False


def rotate() -> int:
    """Encrypt every secret with the first key; safe while secrets are read and written. Says how many there were."""
    cipher, last, done = _cipher(), 0, 0
    while batch := list(Secret.objects.filter(pk__gt=last).order_by("pk")[:BATCH]):
        with transaction.atomic():
            for secret in batch:
                _open(secret)  # names the one that can't be opened
                token = cipher.rotate(secret.token.encode()).decode()
                done += Secret.objects.filter(pk=secret.pk, token=secret.token).update(
                    token=token, former=""
                )
        last = batch[-1].pk
    return done


class Mask:
    """Puts ••• in place of these values in texts and JSON, also where they were quoted; values shorter than eight characters are left."""

    def __init__(self, values: Iterable[str]) -> None:
        long = {value for value in values if len(value) >= SHORTEST_MASKED}
        quoted = {
            form
            for value in long
            for form in (
                value,
                json.dumps(value)[1:-1],
                json.dumps(value, ensure_ascii=False)[1:-1],
                repr(value)[1:-1],
                quote(value),
            )
        }
        self._values = sorted(quoted, key=len, reverse=True)

    def __bool__(self) -> bool:
        return bool(self._values)

    def text(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, MASK)
        return text

    def value(self, value: Any) -> Any:
        if not self._values:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self._members(value)
        return [self.value(item) for item in value] if isinstance(value, list) else value

    def _members(self, value: Mapping[str, Any]) -> dict[str, Any]:
        masked: dict[str, Any] = {}
        for key, item in value.items():
            shown = self.text(key)
            while shown in masked:  # no member is lost, however alike they look now
                shown += MASK
            masked[shown] = self.value(item)
        return masked


def mask_of(version_id: int, names: Iterable[str]) -> Mask:
    """The mask for these secrets of a version's graph, as they are and as they were before their last change."""
    found = Secret.objects.filter(graph__versions=version_id, name__in=list(names))
    return Mask(
        _decrypt(token, secret.name)
        for secret in found
        for token in (secret.token, secret.former)
        if token
    )
