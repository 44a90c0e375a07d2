"""What the tests of FlowView share."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runs.langgraph import db_executor
from tests.support.flow_client import Flow


@pytest.fixture(autouse=True, scope="module")
def _closed():
    """The saver's connections, so that the test database can be dropped."""
    yield
    db_executor.close()


@pytest.fixture
def staff(namespace):
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    return client


@pytest.fixture
def flow(staff, publish):
    return Flow(staff, publish("a>b", inputs={"b": {"value": "${{ a.outputs.value }}"}}))
