from axes.apps import AppConfig as AxesConfig
from django.apps import AppConfig


class StateManagerConfig(AppConfig):
    name = "statemanager"
    verbose_name = "State Manager"

    def ready(self) -> None:
        from statemanager import checks  # noqa: F401  (the import registers the system checks)


class LoginsConfig(AxesConfig):
    """django-axes under a name that says what its pages show."""

    verbose_name = "Logins"
