"""A saver, whose connections are closed after each module."""

import pytest

from runs.langgraph import db_executor


@pytest.fixture(autouse=True, scope="module")
def _closed():
    """Close the saver's own connections, so that the test database can be dropped."""
    yield
    db_executor.close()


@pytest.fixture
def saver():
    from runs.langgraph.saver import DjangoSaver

    return DjangoSaver("alpha")
