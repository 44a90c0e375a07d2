"""Settings of the processes that tests start: the project's own, with the test nodes."""

import os

from statemanager.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests"]  # noqa: F405
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # as the tests' own settings, which make the users
if _pages := os.environ.get("MAX_PAGES"):  # a full disk
    DATABASES["default"]["OPTIONS"]["init_command"] += f" PRAGMA max_page_count={int(_pages)};"  # type: ignore[index]  # noqa: F405
