"""API keys: `sm_<prefix>_<secret>`. 256 random bits, so a plain SHA-256 is enough; the key is shown once."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from graphs import names
from graphs.models import ApiKey, Namespace

USED_EVERY = timedelta(minutes=1)


@transaction.atomic
def create_key(namespaces: Iterable[str] = (), scope: str = "run", expires_at: datetime | None = None, name: str = "", user: Any = None) -> tuple[ApiKey, str]:
    """The stored key and, this once, its text. No namespaces means all of them; unknown ones are made."""
    opened = [Namespace.objects.get_or_create(name=names.checked("namespace", namespace))[0] for namespace in namespaces]
    key = ApiKey(name=name, scope=scope, expires_at=expires_at, created_by=user, all_namespaces=not opened)
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
    """The usable key behind this text; None for anything else. Notes when it was used, at most once a minute."""
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
