"""Settings of the processes that tests start: the project's own, with the test nodes."""

from statemanager.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests"]  # noqa: F405
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # as the tests' own settings, which make the users
