"""The settings of the processes that tests start: those of the project, with the test nodes."""

import os
import time
from datetime import timedelta

from django.utils import timezone

from statemanager.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests"]  # noqa: F405
# The same as in tests.settings, which hashes the passwords of the users.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if _synchronous := os.environ.get("SQLITE_SYNCHRONOUS"):
    _pragma = f" PRAGMA synchronous={_synchronous};"
    if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
        DATABASES["default"]["OPTIONS"]["init_command"] += _pragma  # noqa: F405
if _pages := os.environ.get("MAX_PAGES"):  # imitates a full disk
    _pragma = f" PRAGMA max_page_count={int(_pages)};"
    DATABASES["default"]["OPTIONS"]["init_command"] += _pragma  # type: ignore[index]  # noqa: F405

# The seconds by which the clock of this process is ahead.
if skew := float(os.environ.get("CLOCK_SKEW", 0)):
    real_time = time.time
    real_now = timezone.now
    time.time = lambda: real_time() + skew
    timezone.now = lambda: real_now() + timedelta(seconds=skew)

# Shorter deadlines for clients.
if _seconds := float(os.environ.get("CLIENT_SECONDS", 0)):
    from statemanager.slow_clients import body, client

    body.SECONDS = client.STALL_SECONDS = _seconds
