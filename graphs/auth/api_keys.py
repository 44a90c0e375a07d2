"""API keys: `sm_<prefix>_<secret>`. 256 random bits, so a plain SHA-256 is enough; the key is shown once."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import timedelta
from time import monotonic
from typing import Any

from django.db import transaction
from django.db.models import Case, F, Q, Value, When
from django.utils import timezone

from graphs.definition import names
from graphs.models import ApiKey, Namespace
from graphs.models.querysets import ApiKeyQuerySet

USED_EVERY = timedelta(minutes=1)
KNOWN_SECONDS = 1.0  # so long a process may go on taking a key that was revoked elsewhere
_known: dict[str, tuple[float, ApiKey]] = {}


@transaction.atomic
def create_key(
    namespaces: Iterable[str] = (), scope: str = "run", **values: Any
) -> tuple[ApiKey, str]:
    """The stored key and, this once, its text. No namespaces means all of them; unknown ones are made. `values` are columns of ApiKey."""
    opened = [
        Namespace.objects.get_or_create(name=names.checked("namespace", namespace))[0]
        for namespace in namespaces
    ]
    key = ApiKey(scope=scope, all_namespaces=not opened, **values)
    text = equip(key)
    key.save()
    key.namespaces.set(opened)
    return key, text


def equip(key: ApiKey) -> str:
    """Give an unsaved key its secret; the answer is the key's text, which is kept nowhere."""
    key.prefix, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    key.digest = _digest(secret)
    return f"sm_{key.prefix}_{secret}"


def find_key(text: str) -> ApiKey | None:
    """The usable key behind this text; None for anything else. What was found is known for a second."""
    digest = _digest(text)
    since, key = _known.get(digest, (0.0, None))
    if monotonic() - since < KNOWN_SECONDS:
        return key
    if (key := _read(text)) is not None:
        if len(_known) > 1000:
            _known.clear()
        _known[digest] = monotonic(), key
    return key


def revoke(keys: ApiKeyQuerySet) -> int:
    """Revoke these keys at once in this process, within a second in others; how many were still valid is the answer."""
    _known.clear()
    return keys.filter(revoked_at=None).update(revoked_at=timezone.now())


def forget() -> None:
    """Look every key up again at its next use."""
    _known.clear()


def admit(key: ApiKey) -> int:
    """Count a request of a limited key; 0 if it may go on, else the seconds until it may. Exact over all processes."""
    if key.per_minute is None:
        return 0
    now = timezone.now()
    minute = now.replace(second=0, microsecond=0)
    free = ~Q(minute=minute) | Q(minute=None) | Q(minute_count__lt=key.per_minute)
    count = Case(When(minute=minute, then=F("minute_count") + 1), default=Value(1))
    admitted = key.per_minute and ApiKey.objects.filter(free, pk=key.pk).update(
        minute=minute, minute_count=count
    )
    return 0 if admitted else 60 - now.second


def _read(text: str) -> ApiKey | None:
    """The usable key in the database. Notes when it was used, at most once a minute."""
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != "sm" or "\x00" in text:
        return None
    now = timezone.now()
    key = ApiKey.objects.usable(now).filter(prefix=parts[1]).prefetch_related("namespaces").first()
    if key is None or not hmac.compare_digest(key.digest, _digest(parts[2])):
        return None
    if key.last_used_at is None or now - key.last_used_at > USED_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return key


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
