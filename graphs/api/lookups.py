"""Finds what a path or a body names, among what the caller may see."""

from graphs.auth.callers import Caller
from graphs.auth.namespaces import ensure_namespace
from graphs.definition import errors, names
from graphs.definition.names import parse_id
from graphs.models import Dataset, Graph, Namespace

DEFAULT_NAMESPACE = "default"


def graph_of(caller: Caller, graph_id: str) -> Graph:
    """The graph with its current version. Raises NotFound if the caller sees no such graph."""
    pk = parse_id(graph_id)
    graph = None
    if pk:
        graph = Graph.objects.visible_to(caller).with_version().filter(pk=pk).first()
    if graph is None:
        raise errors.NotFound(f"There is no graph {graph_id[:50]!r}.")
    return graph


def dataset_of(caller: Caller, dataset_id: str) -> Dataset:
    """The dataset with its tables. Raises NotFound if the caller sees no such dataset."""
    pk = parse_id(dataset_id)
    dataset = None
    if pk:
        dataset = Dataset.objects.visible_to(caller).with_tables().filter(pk=pk).first()
    if dataset is None:
        raise errors.NotFound(f"There is no dataset {dataset_id[:50]!r}.")
    return dataset


def namespace_for(caller: Caller, name: str | None, create: bool = True) -> Namespace:
    """The namespace to create something in, in which the caller must have the right to start runs.

    Without a name it is the only namespace of the caller's key, or else "default". Callers that
    see all namespaces may name one that doesn't exist; it is created, or with `create=False`
    returned without being saved. Raises NotFound if the caller doesn't see the namespace, Forbidden
    if it may not start runs there.
    """
    if name is None and caller.namespaces is not None and len(caller.namespaces) == 1:
        return Namespace.objects.get(pk=next(iter(caller.namespaces)))
    name = name or DEFAULT_NAMESPACE
    namespace = Namespace.objects.filter(name=name).first()
    if namespace is None and caller.namespaces is None and "start" in caller.rights:
        if not create:
            return Namespace(name=names.checked("namespace", name))
        namespace = ensure_namespace(name, caller)
    if namespace is None or not caller.sees(namespace.pk):
        raise errors.NotFound(f"There is no namespace {name!r}.")
    caller.require("start", namespace.pk)
    return namespace
