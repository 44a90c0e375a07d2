from django.apps import AppConfig


class StateManagerConfig(AppConfig):
    name = "statemanager"
    verbose_name = "State Manager"

    def ready(self) -> None:
        from statemanager import checks  # noqa: F401  (the import registers the system checks)
