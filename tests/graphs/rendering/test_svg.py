"""Pictures of graphs as files, which have a limit."""

import pytest

from graphs.definition import errors
from graphs.rendering import svg


def star(edges):
    """A node that leads to each of the others."""
    nodes = [{"id": f"n{at}", "kind": "noop"} for at in range(edges + 1)]
    return {"nodes": nodes, "edges": [{"from": "n0", "to": f"n{at}"} for at in range(1, edges + 1)]}


def test_a_picture_has_a_limited_number_of_edges(monkeypatch):
    monkeypatch.setattr(svg, "MAX_EDGES", 5)
    assert svg.of_definition(star(5), "star").count("<path d=") == 5
    with pytest.raises(errors.TooLarge, match="this graph has 6"):
        svg.of_definition(star(6), "star")
