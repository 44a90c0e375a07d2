"""The built-in nodes; importing this package registers them."""

from graphs.nodes import control, data, files, joins, network

__all__ = ["control", "data", "files", "joins", "network"]
