"""Each test process uses the database that its name stands for."""

import os

from django.db import connection


def test_the_process_uses_its_database(database):
    assert connection.vendor == database
    assert database == {"gw0": "sqlite", "gw1": "postgresql"}[os.environ["PYTEST_XDIST_WORKER"]]
