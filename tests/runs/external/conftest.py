"""A client with a key that may run graphs."""

import pytest
from rest_framework.test import APIClient


@pytest.fixture
def api_client(make_key):
    return APIClient(headers={"X-API-Key": make_key("run")})
