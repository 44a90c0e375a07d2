"""The project's settings with Django's stock changelist of runs beside the Run Manager."""

from statemanager.settings import *  # noqa: F403

ROOT_URLCONF = "tests.benchmarks.manager_urls"
