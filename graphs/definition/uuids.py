"""Time-ordered UUIDs. Pure."""

import uuid
from datetime import UTC, datetime
from random import SystemRandom
from time import time_ns

getrandbits = SystemRandom().getrandbits


def uuid7() -> str:
    """A new time-ordered UUID (RFC 9562, version 7) as 32 hex digits; its 12 bits below the millisecond are time, too (method 3)."""
    millis, nanos = divmod(time_ns(), 1_000_000)
    number = (
        (millis & (2**48 - 1)) << 80
        | 0x7 << 76
        | (nanos * 4096 // 1_000_000) << 64
        | 0b10 << 62
        | getrandbits(62)
    )
    return f"{number:032x}"


def made_at(key: str) -> datetime:
    """The time within a UUID of version 7."""
    return datetime.fromtimestamp(int(key[:12], 16) / 1000, UTC)


def dashed(key: str) -> str:
    """32 hex digits as a UUID is usually written."""
    return str(uuid.UUID(key))
