"""Settings of the processes that tests start: the project's own, with the test nodes."""

import os
import time
from datetime import timedelta

from django.utils import timezone

from statemanager.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests"]  # noqa: F405
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher"
]  # as the tests' own settings, which make the users
if _synchronous := os.environ.get("SQLITE_SYNCHRONOUS"):
    _pragma = f" PRAGMA synchronous={_synchronous};"
    if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
        DATABASES["default"]["OPTIONS"]["init_command"] += _pragma  # noqa: F405
if _pages := os.environ.get("MAX_PAGES"):  # a full disk
    DATABASES["default"]["OPTIONS"]["init_command"] += f" PRAGMA max_page_count={int(_pages)};"  # type: ignore[index]  # noqa: F405

if skew := float(
    os.environ.get("CLOCK_SKEW", 0)
):  # seconds by which the clock of this process's host is ahead
    real_time, real_now = time.time, timezone.now
    time.time = lambda: real_time() + skew
    timezone.now = lambda: real_now() + timedelta(seconds=skew)
