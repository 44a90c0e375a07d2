"""The models of what can run and who may run it: namespaces, keys, nodes, graphs, datasets."""

from graphs.models import graph, lookups, namespace  # noqa: F401  (lookups registers itself)
from graphs.models.api_key import ApiKey
from graphs.models.cron_trigger import CronTrigger, Schedule
from graphs.models.dataset import Dataset, DatasetTable
from graphs.models.draft import DraftChange
from graphs.models.graph import Graph, GraphVersion, plan_of
from graphs.models.idempotency import IdempotencyKey
from graphs.models.indexed_input import IndexedInput
from graphs.models.namespace import Namespace, NamespaceMembership, known_namespace, namespace_id
from graphs.models.node import RegisteredNode
from graphs.models.secret import Secret
from graphs.models.time_zone import UserTimeZone

__all__ = [
    "ApiKey",
    "CronTrigger",
    "Dataset",
    "DatasetTable",
    "DraftChange",
    "Graph",
    "GraphVersion",
    "IdempotencyKey",
    "IndexedInput",
    "Namespace",
    "NamespaceMembership",
    "RegisteredNode",
    "Schedule",
    "Secret",
    "UserTimeZone",
    "forget",
    "known_namespace",
    "namespace_id",
    "plan_of",
]


def forget() -> None:
    """Clear the caches of versions and namespaces (for tests)."""
    graph.forget_plans()
    namespace.forget()
