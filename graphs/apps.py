from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules


class GraphsConfig(AppConfig):
    name = "graphs"
    verbose_name = "Graphs"

    def ready(self) -> None:
        from graphs.nodes.base import registry

        autodiscover_modules("nodes")
        post_migrate.connect(registry.store, sender=self)
