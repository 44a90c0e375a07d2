"""The secrets of graphs, encrypted at rest. `masking` masks their values in what is stored.

Values are encrypted with Fernet. SECRETS_KEYS lists the keys: the first encrypts, and all of them
decrypt. `rotate` encrypts every secret with the first key, after which the other keys can be
removed.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from graphs.definition import errors, names
from graphs.models import Graph, Secret
from graphs.services.masking import Mask
from statemanager.conf import conf

BATCH = 500
_others: list[type[Model]] = []


def _cipher() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in conf.SECRETS_KEYS])


def encrypt(value: str) -> str:
    """The token that is stored for a value."""
    return _cipher().encrypt(value.encode()).decode()


def replace(graph: Graph, values: Mapping[str, str]) -> None:
    """Make these values the secrets of the graph's template.

    Secrets of the former template that are not among them are deleted. Secrets that were set by
    hand stay, and so does the row of a value that didn't change. Call this in the transaction that
    changes the graph. Raises Malformed for an empty value or an invalid name.
    """
    stored = {secret.name: secret for secret in graph.secrets.all()}
    graph.secrets.filter(by_template=True).exclude(name__in=values).delete()
    for name, value in values.items():
        if name not in stored or not _has_value(stored[name], value):
            put(graph, name, value, by_template=True)


def put(graph: Graph, name: str, value: str, by_template: bool = False) -> None:
    """Set one secret. Raises Malformed for an empty value or an invalid name."""
    if not value:
        raise errors.Malformed(f"The secret {name!r} is empty.")
    name = names.checked("secret", name)
    stored = Secret.objects.filter(graph=graph, name=name)
    former = stored.values_list("token", flat=True).first() or ""
    Secret.objects.update_or_create(
        graph=graph,
        name=name,
        defaults={
            "token": encrypt(value),
            "former": former,
            "updated_at": timezone.now(),
            "by_template": by_template,
        },
    )


def reveal(version_id: int, names: Iterable[str]) -> dict[str, str]:
    """The values of these secrets of a version's graph. Secrets that are not set are left out.

    Raises Conflict if none of the keys decrypts a value.
    """
    secrets = Secret.objects.filter(graph__versions=version_id, name__in=list(names))
    return {secret.name: _decrypt(secret.token, secret.name) for secret in secrets}


def _decrypt(token: str, name: str) -> str:
    try:
        return _cipher().decrypt(token.encode()).decode()
    except InvalidToken:
        raise errors.Conflict(
            f"The secret {name!r} was encrypted with a key that is not in SECRETS_KEYS. "
            "Add the key, or set the secret again."
        ) from None


def unreadable(limit: int = 1000) -> list[str]:
    """Those of the newest secrets that no key opens, as graph and name."""
    names = []
    for secret in Secret.objects.select_related("graph__namespace").order_by("-pk")[:limit]:
        try:
            _cipher().decrypt(secret.token.encode())
        except InvalidToken:
            names.append(f"{secret.graph}: {secret.name}")
    return names


def _has_value(secret: Secret, value: str) -> bool:
    """Whether a secret has this value. A secret that can't be decrypted has no value."""
    try:
        return _decrypt(secret.token, secret.name) == value
    except errors.Conflict:
        return False


def decrypt(token: str, name: str) -> str:
    """The value of a token. Raises Conflict, which names it, if none of the keys opens it."""
    return _decrypt(token, name)


def register(model: type[Model]) -> None:
    """Let `rotate` encrypt the column `token` of another model, too."""
    _others.append(model)


def rotate() -> int:
    """Encrypt every secret with the first key, and return the number of secrets that were updated.

    This is safe while secrets are read and written: a secret that changes in the meantime already
    has the first key and is left alone. Raises Conflict for a secret that can't be decrypted.
    """
    return _rotate(Secret, former="") + sum(_rotate(model) for model in _others)


def _rotate(model: Any, **changes: str) -> int:
    cipher = _cipher()
    last_pk = 0
    updated = 0
    rows = model._default_manager.exclude(token="").order_by("pk")
    while batch := list(rows.filter(pk__gt=last_pk)[:BATCH]):
        with transaction.atomic():
            for row in batch:
                _decrypt(row.token, str(row))  # an error of this call names the secret
                token = cipher.rotate(row.token.encode()).decode()
                unchanged = model._default_manager.filter(pk=row.pk, token=row.token)
                updated += unchanged.update(token=token, **changes)
        last_pk = batch[-1].pk
    return updated


def mask_of(version_id: int, names: Iterable[str]) -> Mask:
    """The mask for these secrets of a version's graph.

    It includes each value before its last change, which a node that started earlier may still use.
    Raises Conflict if none of the keys decrypts a value.
    """
    secrets = Secret.objects.filter(graph__versions=version_id, name__in=list(names))
    return Mask(
        _decrypt(token, secret.name)
        for secret in secrets
        for token in (secret.token, secret.former)
        if token
    )
