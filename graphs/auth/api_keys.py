"""API keys of the form `sm_<prefix>_<secret>`.

A secret has 256 random bits, so that a plain SHA-256 of it is safe to store. The key itself is
shown once, when it is made.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from time import monotonic
from typing import TypedDict, Unpack

from django.db import transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from graphs.auth import acts
from graphs.auth.callers import SYSTEM, Caller
from graphs.auth.namespaces import ensure_namespace
from graphs.models import ApiKey, clock
from graphs.models.querysets import ApiKeyQuerySet

USED_EVERY = timedelta(minutes=1)  # how often a use of a key is recorded, at most
KNOWN_SECONDS = 1.0  # how long a process may accept a key that was revoked by another one
MAX_KNOWN = 1000
_known: dict[str, tuple[float, ApiKey]] = {}  # by digest: when the key was read, and the key


class KeyOptions(TypedDict, total=False):
    """Further columns of a new key."""

    name: str
    expires_at: datetime | None
    per_minute: int | None


@transaction.atomic
def create_key(
    namespaces: Iterable[str] = (),
    scope: str = "run",
    caller: Caller = SYSTEM,
    **options: Unpack[KeyOptions],
) -> tuple[ApiKey, str]:
    """Make a key for these namespaces. Returns the stored key and, this once, its text.

    Without namespaces the key opens all of them. A namespace that does not exist is made. Raises
    Malformed for a bad name.
    """
    opened = [ensure_namespace(namespace, caller) for namespace in namespaces]
    key = ApiKey(scope=scope, all_namespaces=not opened, **options)
    text = set_secret(key)
    key.save()
    key.namespaces.set(opened)
    acts.record(caller, "create_key", None, f"{key}, scope {key.scope}")
    return key, text


def set_secret(key: ApiKey) -> str:
    """Give an unsaved key a new secret. Returns the text of the key, which is not stored."""
    key.prefix = secrets.token_hex(4)
    secret = secrets.token_urlsafe(32)
    key.digest = _digest(secret)
    return f"sm_{key.prefix}_{secret}"


def find_key(text: str) -> ApiKey | None:
    """The usable key with this text; None for anything else.

    A process remembers the keys that it found for KNOWN_SECONDS.
    """
    digest = _digest(text)
    since, key = _known.get(digest, (0.0, None))
    if monotonic() - since < KNOWN_SECONDS:
        return key
    key = _read(text)
    if key is not None:
        if len(_known) > MAX_KNOWN:
            _known.clear()
        _known[digest] = monotonic(), key
    return key


@transaction.atomic
def revoke(keys: ApiKeyQuerySet, caller: Caller = SYSTEM) -> int:
    """Revoke these keys. Returns how many of them were not revoked before.

    This process refuses them at once, others within KNOWN_SECONDS.
    """
    revoked = list(keys.filter(revoked_at=None).select_for_update(no_key=True))
    ApiKey.objects.filter(pk__in=[key.pk for key in revoked]).update(revoked_at=timezone.now())
    for key in revoked:
        acts.record(caller, "revoke_key", None, str(key))
    forget()
    transaction.on_commit(forget)
    return len(revoked)


def forget() -> None:
    """Look every key up again at its next use."""
    _known.clear()


def admit(key: ApiKey) -> int:
    """Count a request against the key's limit per minute.

    Returns 0 if the request is admitted, else the seconds until the next minute. The count is
    exact over all processes, because one UPDATE checks and raises it.
    """
    if key.per_minute is None:
        return 0
    now = clock.now()
    minute = now.replace(second=0, microsecond=0)
    is_free = ~Q(minute=minute) | Q(minute=None) | Q(minute_count__lt=key.per_minute)
    count = Case(When(minute=minute, then=F("minute_count") + 1), default=Value(1))
    admitted = key.per_minute and ApiKey.objects.filter(is_free, pk=key.pk).update(
        minute=minute, minute_count=count
    )
    return 0 if admitted else 60 - now.second


def _read(text: str) -> ApiKey | None:
    """The usable key in the database. Records its use, at most once per USED_EVERY."""
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != "sm" or "\x00" in text:
        return None
    _, prefix, secret = parts
    keys = ApiKey.objects.usable().annotate(now=Now()).filter(prefix=prefix)
    key = keys.prefetch_related("namespaces").first()
    if key is None or not hmac.compare_digest(key.digest, _digest(secret)):
        return None
    if key.last_used_at is None or key.now - key.last_used_at > USED_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=key.now)
    return key


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
