"""The project's settings with one plain view more (`bare_urls`)."""

from statemanager.settings import *  # noqa: F403

ROOT_URLCONF = "tests.benchmarks.bare_urls"
