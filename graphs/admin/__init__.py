"""The pages of the app's models in the Django admin; Django imports this package."""

from graphs.admin import access, datasets, graphs

__all__ = ["access", "datasets", "graphs"]
