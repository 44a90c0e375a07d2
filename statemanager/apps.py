from axes.apps import AppConfig as AxesConfig
from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class StateManagerConfig(AppConfig):
    name = "statemanager"
    verbose_name = "State Manager"

    def ready(self) -> None:
        # The imports register the system checks and connect the receivers.
        from statemanager import checks, login_audit  # noqa: F401


class AdminSiteConfig(AdminConfig):
    """The admin with audit entries."""

    default_site = "statemanager.admin_site.AuditedSite"


class LoginsConfig(AxesConfig):
    """django-axes under a name that says what its pages show."""

    verbose_name = "Logins"

    def ready(self) -> None:
        super().ready()
        from axes.admin import AccessAttemptAdmin

        # Its action fails for requests that are no logins. The supervisor forgets old attempts.
        AccessAttemptAdmin.actions = []
