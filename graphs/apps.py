from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules


class GraphsConfig(AppConfig):
    name = "graphs"
    # Names of tables begin with the label. A host project may well have an app "graphs" already.
    label = "statemanager_graphs"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Graphs"

    def ready(self) -> None:
        """Find the nodes in `nodes` modules of all apps, and store them after each migrate."""
        from graphs.auth import accounts  # noqa: F401  (the import connects its receivers)
        from graphs.nodes.base import registry

        autodiscover_modules("nodes")
        post_migrate.connect(registry.store, sender=self)
