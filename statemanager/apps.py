import warnings

from axes.apps import AppConfig as AxesConfig
from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin.apps import SimpleAdminConfig

# Our cluster has its own settings (`runs.cluster.q_cluster`), but django-q2 warns where a project
# has none.
if not hasattr(settings, "Q_CLUSTER"):
    warnings.filterwarnings("ignore", message="Retry and timeout are misconfigured")


class StateManagerConfig(AppConfig):
    name = "statemanager"
    verbose_name = "State Manager"

    def ready(self) -> None:
        # The imports register the system checks and connect the receivers.
        from statemanager import checks, login_audit  # noqa: F401


class AdminSiteConfig(SimpleAdminConfig):
    """The admin with audit entries.

    `statemanager.urls` imports its pages. Processes that serve none, such as those of a cluster,
    start sooner without them.
    """

    default_site = "statemanager.admin_site.AuditedSite"


class LoginsConfig(AxesConfig):
    """django-axes under a name that says what its pages show."""

    verbose_name = "Logins"
