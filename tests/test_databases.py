"""Each process of the tests uses the database that it is meant for."""

from django.db import connection

from tests.settings import DATABASE_IS_CHOSEN, PROCESS


def test_the_process_uses_its_database(database):
    assert connection.vendor == database
    if not DATABASE_IS_CHOSEN:
        assert database == (
            "sqlite" if PROCESS == "main" else ("sqlite", "postgresql")[int(PROCESS[2:]) % 2]
        )
