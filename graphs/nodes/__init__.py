"""The nodes that we ship; importing this package registers them."""

from graphs.nodes import control, data, network

__all__ = ["control", "data", "network"]
