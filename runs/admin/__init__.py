"""The Django admin of runs, and of who is told about them."""

from runs.admin import notifications, runs

__all__ = ["notifications", "runs"]
