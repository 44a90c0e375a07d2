"""The project's settings, with the plain view of `bare_urls`."""

from statemanager.settings import *  # noqa: F403

ROOT_URLCONF = "tests.benchmarks.bare_urls"
