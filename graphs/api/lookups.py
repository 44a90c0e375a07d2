"""Finding what a path or a body names, among what the caller may see: anything else is not found."""

from graphs.auth.callers import Caller
from graphs.definition import errors, names
from graphs.definition.names import parse_id
from graphs.models import Dataset, Graph, Namespace

DEFAULT_NAMESPACE = "default"


def graph_of(caller: Caller, graph_id: str) -> Graph:
    found = (
        Graph.objects.visible_to(caller).with_version().filter(pk=parse_id(graph_id)).first()
        if parse_id(graph_id)
        else None
    )
    if found is None:
        raise errors.NotFound(f"There is no graph {graph_id[:50]!r}.")
    return found


def dataset_of(caller: Caller, dataset_id: str) -> Dataset:
    found = (
        Dataset.objects.visible_to(caller).with_tables().filter(pk=parse_id(dataset_id)).first()
        if parse_id(dataset_id)
        else None
    )
    if found is None:
        raise errors.NotFound(f"There is no dataset {dataset_id[:50]!r}.")
    return found


def namespace_for(caller: Caller, name: str | None) -> Namespace:
    """The namespace to make something in: the named one, else the only one of the caller's key, else "default"."""
    if name is None and caller.namespaces is not None and len(caller.namespaces) == 1:
        return Namespace.objects.get(pk=next(iter(caller.namespaces)))
    name = name or DEFAULT_NAMESPACE
    found = Namespace.objects.filter(name=name).first()
    if found is None and caller.namespaces is None and "start" in caller.rights:
        found, _ = Namespace.objects.get_or_create(name=names.checked("namespace", name))
    if found is None or not caller.sees(found.pk):
        raise errors.NotFound(f"There is no namespace {name!r}.")
    caller.require("start", found.pk)
    return found
