"""Clients of two tenants, each with the node `Work` registered."""

from typing import Any

import pytest

from graphs.auth import api_keys
from tests.support.v0_client import V0Client


@pytest.fixture
def api(namespace: Any) -> V0Client:
    """A client with an admin key for the namespace alpha."""
    client = V0Client(api_keys.create_key(["alpha"], "admin")[1])
    client.register("Work")
    return client


@pytest.fixture
def other(namespace: Any) -> V0Client:
    """A client with an admin key for the namespace beta."""
    client = V0Client(api_keys.create_key(["beta"], "admin")[1], "beta")
    client.register("Work")
    return client
