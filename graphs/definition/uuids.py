"""Time-ordered UUIDs. Pure."""

import uuid
from datetime import UTC, datetime
from random import SystemRandom
from time import time_ns

getrandbits = SystemRandom().getrandbits


def uuid7() -> str:
    """A new time-ordered UUID (RFC 9562, version 7) as 32 hex digits.

    The 12 bits below the millisecond are a fraction of it (method 3 of the RFC), so that keys made
    in the same millisecond sort by time, too.
    """
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
    """The time at which a UUID of version 7 was made."""
    return datetime.fromtimestamp(int(key[:12], 16) / 1000, UTC)


def dashed(key: str) -> str:
    """32 hex digits in the usual form of a UUID."""
    return str(uuid.UUID(key))
