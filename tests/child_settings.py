"""Settings of the processes that tests start: the project's own, with the test nodes."""

from statemanager.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests"]  # noqa: F405
