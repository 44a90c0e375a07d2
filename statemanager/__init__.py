"""State Manager: the wiring of the project."""

__version__ = "0.9.0"
