"""A saver, and the end of its connections."""

import pytest

from runs.langgraph import db_executor


@pytest.fixture(autouse=True, scope="module")
def _closed():
    """The saver has connections of its own: closed, the test database can be dropped."""
    yield
    db_executor.close()


@pytest.fixture
def saver():
    from runs.langgraph.saver import DjangoSaver

    return DjangoSaver("alpha")
