from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules


class GraphsConfig(AppConfig):
    name = "graphs"
    label = "statemanager_graphs"  # and so the tables, which share a database with the host's
    verbose_name = "Graphs"

    def ready(self) -> None:
        from graphs.nodes.base import registry

        autodiscover_modules("nodes")
        post_migrate.connect(registry.store, sender=self)
