"""Which database a process of the tests uses, and which tests it runs on it."""

import pytest

DATABASES = ("sqlite", "postgresql")
# Fixtures of pytest-django that give access to the database, and ours that names it.
FIXTURES = {"db", "django_db_setup", "database"}


def database_of(worker: str) -> str:
    """The database of a process of pytest-xdist: of gw0, gw2 … SQLite, of the others PostgreSQL."""
    return DATABASES[int(worker.removeprefix("gw")) % 2]


def runs_on(item: pytest.Item, database: str, is_chosen: bool) -> bool:
    """Whether a test runs on this database.

    A test with the marker `only_on` runs on the database that the marker names. One without access
    to a database gives the same answer twice, so it runs beside SQLite only, unless one database
    was chosen for all tests.
    """
    if marker := item.get_closest_marker("only_on"):
        return bool(marker.args[0] == database)
    return is_chosen or database == "sqlite" or _uses_database(item)


def _uses_database(item: pytest.Item) -> bool:
    """pytest-django refuses queries to tests without its marker or one of its fixtures."""
    fixtures = getattr(item, "fixturenames", ())
    return bool(item.get_closest_marker("django_db")) or not FIXTURES.isdisjoint(fixtures)
