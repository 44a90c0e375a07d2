"""Storing definitions as immutable versions of graphs.

Publishing a definition that equals the current version makes no new version. All functions that
change a graph lock its row first, so writers of one graph run one after the other.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping

from django.db import transaction
from django.utils import timezone

from graphs.auth import acts
from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors, names, payloads, validation, value_paths
from graphs.definition.types import Json, JsonObject
from graphs.definition.validation import Problem
from graphs.models import Graph, GraphVersion, IndexedInput, Namespace
from graphs.services.kinds import Kinds

MAX_NAME_STEM = 190  # leaves room for a number at the end of a name of 200 characters


def check(namespace: str, definition: Json, caller: Caller = SYSTEM) -> list[Problem]:
    """Every problem that a definition would have in this namespace."""
    return validation.problems(definition, Kinds(namespace, definition, caller).find)


def publish_graph(
    namespace: Namespace,
    name: str,
    definition: Mapping[str, Json],
    caller: Caller = SYSTEM,
    note: str = "",
) -> Graph:
    """Make a definition the current version of a graph, which is created if necessary.

    Raises InvalidGraph with every problem; the current version then stays what it was. Raises
    Malformed if the definition can't be stored or the name is invalid, and Forbidden without the
    right to start runs.
    """
    kinds = Kinds(namespace.name, definition, caller)
    require_valid(definition, kinds)
    return store_version(namespace, name, kinds.resolved(definition), [], caller, note)


def require_valid(definition: Mapping[str, Json], kinds: Kinds) -> None:
    """Raises InvalidGraph with every problem, and Malformed if it can't be stored."""
    problems = find_problems(definition, kinds)
    if problems:
        raise errors.InvalidGraph(
            f"Graph validation failed: {summary(problems)}",
            errors=[problem.as_json() for problem in problems],
        )


def find_problems(
    definition: Mapping[str, Json], kinds: Kinds, secrets: Collection[str] | None = None
) -> list[Problem]:
    """Every problem of a definition.

    `secrets` are the names of the graph's secrets; with None, missing secrets are no problem.
    Raises Malformed if the definition can't be stored.
    """
    require_storable(definition)
    return validation.problems(definition, kinds.find, secrets)


def require_storable(definition: Json) -> None:
    """Raises Malformed if a definition can't be stored as JSON."""
    try:
        payloads.dump(definition)
    except payloads.NotJson as error:
        raise errors.Malformed(f"The definition can't be stored: {error}.") from None


def checksum_of(resolved: Mapping[str, Json]) -> str:
    """The SHA-256 of a resolved definition. The order of keys makes no difference."""
    text = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@transaction.atomic
def store_version(
    namespace: Namespace,
    name: str,
    resolved: Mapping[str, Json],
    problems: Iterable[Problem],
    caller: Caller,
    note: str = "",
    by_template: bool = False,
) -> Graph:
    """Make a resolved definition the current version of a graph, which is created if necessary.

    A version with problems is stored with them, and no run can start from it. Raises Forbidden
    without the right to start runs, and Malformed for an invalid name.
    """
    caller.require("start", namespace.pk)
    graph, _ = Graph.objects.get_or_create(namespace=namespace, name=names.checked("graph", name))
    return _add_version(lock_graph(graph), resolved, problems, caller, note, by_template)


def lock_graph(graph: Graph) -> Graph:
    """Read a graph again and lock it until the transaction ends. Raises NotFound if it is gone."""
    locked = Graph.objects.with_version().lock(graph.pk).first()
    if locked is None:
        raise errors.NotFound(f"The graph {graph.name!r} was deleted at this moment.")
    return locked


def _add_version(
    graph: Graph,
    resolved: Mapping[str, Json],
    problems: Iterable[Problem],
    caller: Caller,
    note: str,
    by_template: bool,
) -> Graph:
    """Add a version to a locked graph, unless its current version has the same content."""
    checksum = checksum_of(resolved)
    problems_json = [problem.as_json() for problem in problems]
    if graph.current and graph.current.checksum == checksum:
        _update_problems(graph.current, problems_json)
        return graph

    last_number = graph.versions.order_by("-number").values_list("number", flat=True).first() or 0
    version = GraphVersion.objects.create(
        graph=graph,
        number=last_number + 1,
        definition=resolved,
        checksum=checksum,
        problems=problems_json,
        created_by=caller.user,
        note=note,
        by_template=by_template,
    )
    _make_current(graph, version)
    acts.record(caller, "publish", graph.namespace_id, str(version))
    return graph


def _make_current(graph: Graph, version: GraphVersion) -> None:
    graph.current = version
    graph.updated_at = timezone.now()
    Graph.objects.filter(pk=graph.pk).update(current=version, updated_at=graph.updated_at)
    _declare_inputs(graph, version)


def _declare_inputs(graph: Graph, version: GraphVersion) -> None:
    """Make the indexed inputs of the graph those of its current version.

    The runs that there are already are indexed later, in batches. Before the first version there
    were none.
    """
    settings = version.definition.get("settings") or {}
    paths = {
        value_paths.written(value_paths.parse(text)) for text in settings.get("indexed_inputs", ())
    }
    declared = IndexedInput.objects.declared().filter(graph=graph)
    declared.exclude(path__in=paths).update(dropped=True)
    indexed_from = 0 if version.number == 1 else None
    IndexedInput.objects.bulk_create(
        IndexedInput(graph=graph, path=path, indexed_from=indexed_from)
        for path in sorted(paths - set(declared.values_list("path", flat=True)))
    )


def _update_problems(version: GraphVersion, problems: list[JsonObject]) -> None:
    """The content of a version never changes, but its problems do, as nodes and secrets change."""
    if version.problems != problems:
        version.problems = problems
        GraphVersion.objects.filter(pk=version.pk).update(problems=problems)


def free_name(namespace: Namespace, wanted: str) -> str:
    """The wanted name for a graph if it is free, else the first free one with a number appended."""
    stem = wanted[:MAX_NAME_STEM]
    graphs = Graph.objects.filter(namespace=namespace, name__startswith=stem)
    taken = set(graphs.values_list("name", flat=True))
    if wanted not in taken:
        return wanted
    numbered = (f"{stem}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in numbered if name not in taken)


@transaction.atomic
def roll_back(graph: Graph, number: int, caller: Caller) -> Graph:
    """Make a former version the current one. Runs that already started keep their version.

    Raises NotFound if the graph has no version of this number.
    """
    graph = lock_graph(graph)
    version = graph.versions.filter(number=number).first()
    if version is None:
        raise errors.NotFound(f"The graph {graph.name!r} has no version {number}.")

    _make_current(graph, version)
    acts.record(caller, "roll_back", graph.namespace_id, str(version))
    recheck(graph, caller)
    return graph


@transaction.atomic
def recheck(graph: Graph, caller: Caller = SYSTEM) -> None:
    """Validate the current version again, after nodes or secrets that it depends on have changed.

    If a node is now found in another namespace, the resolved definition differs, and it becomes a
    new version.
    """
    graph = lock_graph(graph)
    version = graph.current
    if version is None:
        return

    kinds = Kinds(graph.namespace.name, version.definition, caller, every_input=version.by_template)
    secrets = set(graph.secrets.values_list("name", flat=True))
    problems = find_problems(version.definition, kinds, secrets)
    resolved = kinds.resolved(version.definition)
    _add_version(graph, resolved, problems, caller, version.note, version.by_template)


def recheck_graphs_with(namespace: Namespace, node_names: Iterable[str]) -> None:
    """Recheck all graphs that have problems and use one of these nodes of a namespace."""
    changed = {(namespace.name, name) for name in node_names}
    invalid = Graph.objects.with_version().exclude(current=None).exclude(current__problems=[])
    for graph in invalid:
        nodes = graph.current.definition["nodes"]
        if any((node["namespace"], node["kind"]) in changed for node in nodes):
            recheck(graph)


def summary(problems: Iterable[Problem]) -> str:
    """The problems in one line, each after the id of its node."""
    return "; ".join(
        f"{problem.nodeId}: {problem.message}" if problem.nodeId else problem.message
        for problem in problems
    )
