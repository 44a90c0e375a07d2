"""A run for the pages to show."""

import pytest

from runs.engine.new_run import RunOptions


@pytest.fixture
def failed(run_graph):
    """A partial run: b failed, and c emitted a file."""
    return run_graph(
        "a>b>d a>c>d",
        RunOptions(name="<i>Monday</i>", inputs={"password": "hunter2", "n": 1}),
        kinds={"b": "test.fail", "c": "test.emit"},
    )
