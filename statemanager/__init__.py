"""State Manager's project: settings, URLs, middleware and system checks."""

__version__ = "0.9.0"
