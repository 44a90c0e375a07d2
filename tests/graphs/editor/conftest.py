"""Fixtures that the tests of FlowView share."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runs.langgraph import db_executor
from tests.support.flow_client import Flow


@pytest.fixture(autouse=True, scope="module")
def _close_saver_connections():
    """Close the saver's connections, so that the test database can be dropped."""
    yield
    db_executor.close()


@pytest.fixture
def staff(namespace):
    """A client that is logged in as the superuser "ann"."""
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    return client


@pytest.fixture
def flow(staff, publish):
    """FlowView of a graph a > b, in which b reads the output of a."""
    return Flow(staff, publish("a>b", inputs={"b": {"value": "${{ a.outputs.value }}"}}))
