"""The built-in nodes; importing this package registers them."""

from graphs.nodes import control, data, files, network

__all__ = ["control", "data", "files", "network"]
