"""Each lane runs on the database that it is named for."""

import os

from django.db import connection


def test_lane_is_the_database(lane):
    assert connection.vendor == lane
    assert lane == {"gw0": "sqlite", "gw1": "postgresql"}[os.environ["PYTEST_XDIST_WORKER"]]
