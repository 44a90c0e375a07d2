"""What a cluster writes to its error output: passed on, and the last of it kept.

The supervisor stores it as the reason of a start that failed, which Health and doctor show.
"""

import os
import re
from collections import deque
from contextlib import suppress
from threading import Thread
from typing import IO

from django.conf import settings

from graphs.definition import payloads
from graphs.services.masking import MASK, Mask
from statemanager.conf import conf

MAX_KEPT = 8192  # bytes
MAX_LINE = 4096  # bytes that are read of a line at once
MAX_REASON = 4000  # characters
JOIN_SECONDS = 1.0
_SECRET_NAME = re.compile("KEY|SECRET|TOKEN|PASSW", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)")


class ErrorOutput:
    """Copies a stream to our own error output, in a thread, and remembers its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._thread = Thread(target=self._copy, args=(stream,), daemon=True)
        self._thread.start()

    def _copy(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(MAX_LINE):
                self._keep(line)
                with suppress(OSError):  # a cluster must not wait because nobody reads our output
                    os.write(2, line)

    def _keep(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        while self._size > MAX_KEPT and len(self._lines) > 1:
            self._size -= len(self._lines.popleft())

    def last(self) -> str:
        """The last lines of a process that has ended, without secrets; at most MAX_REASON."""
        self._thread.join(JOIN_SECONDS)
        text = b"".join(tuple(self._lines)).decode("utf-8", "replace").strip()
        return payloads.clean(_masked(text), len(text) + 1)[-MAX_REASON:]


def _masked(text: str) -> str:
    """The text without the values of secret settings and without credentials in URLs."""
    values = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    values += [part for value in values for part in value.split(",")]
    database = str(settings.DATABASES["default"].get("PASSWORD") or "")
    mask = Mask([settings.SECRET_KEY, database, *conf.SECRETS_KEYS, *values])
    return _CREDENTIALS.sub(MASK, mask.text(text))
