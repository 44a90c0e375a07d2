"""Clients of two tenants, with the nodes that the tests register."""

from typing import Any

import pytest

from graphs.auth import api_keys
from tests.support.v0_client import V0Client


@pytest.fixture
def api(namespace: Any) -> V0Client:
    """With a key that opens everything of namespace alpha, and the node Work registered."""
    found = V0Client(api_keys.create_key(["alpha"], "admin")[1])
    found.register("Work")
    return found


@pytest.fixture
def other(namespace: Any) -> V0Client:
    """The same of another tenant."""
    found = V0Client(api_keys.create_key(["beta"], "admin")[1], "beta")
    found.register("Work")
    return found
