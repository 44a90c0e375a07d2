from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules


class GraphsConfig(AppConfig):
    name = "graphs"
    # Names of tables begin with the label. A host project may well have an app "graphs" already.
    label = "statemanager_graphs"
    verbose_name = "Graphs"

    def ready(self) -> None:
        """Find the nodes in `nodes` modules of all apps, and store them after each migrate."""
        from graphs.nodes.base import registry

        autodiscover_modules("nodes")
        post_migrate.connect(registry.store, sender=self)
        connection_created.connect(_forget_rows)


def _forget_rows(**_: object) -> None:
    """Forget the rows that this process remembers by their keys.

    A new connection may lead to a server that took over without the last commits of the old one.
    There the keys of lost rows are given to new ones.
    """
    from graphs.models import namespace
    from graphs.nodes import declared
    from graphs.web import ttl_cache

    namespace.forget()
    declared.forget()
    ttl_cache.forget()
