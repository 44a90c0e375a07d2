"""Apps of this project alone: they look after its logins and its admin."""

from axes.apps import AppConfig as AxesConfig
from django.contrib.admin.apps import SimpleAdminConfig

from statemanager.apps import StateManagerConfig


class ProjectConfig(StateManagerConfig):
    default = False

    def ready(self) -> None:
        super().ready()
        # The imports connect the receivers.
        from graphs.auth import refresh_tokens  # noqa: F401
        from statemanager import login_audit  # noqa: F401


class AdminSiteConfig(SimpleAdminConfig):
    """The admin with audit entries.

    `statemanager.urls` imports its pages. Processes that serve none, such as those of a cluster,
    start sooner without them.
    """

    default_site = "statemanager.admin_site.AuditedSite"


class LoginsConfig(AxesConfig):
    """django-axes under a name that says what its pages show."""

    verbose_name = "Logins"
