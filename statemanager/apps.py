import warnings

from django.apps import AppConfig
from django.conf import settings

# Our cluster has its own settings (`runs.cluster.q_cluster`), but django-q2 warns where a project
# has none.
if not hasattr(settings, "Q_CLUSTER"):
    warnings.filterwarnings("ignore", message="Retry and timeout are misconfigured")


class StateManagerConfig(AppConfig):
    """The app for every project: system checks, templates and the Python API."""

    name = "statemanager"
    verbose_name = "State Manager"
    default = True

    def ready(self) -> None:
        from statemanager import checks  # noqa: F401  (the import registers the checks)
