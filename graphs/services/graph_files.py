"""Graphs as JSON files of a folder, so that they are versioned and deployed with your code.

A file holds a definition, as `POST /graphs` takes it and FlowView exports it. Its member `name`, or
else its own name, is the name of the graph.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.db import transaction

from graphs.auth.callers import SYSTEM, Caller
from graphs.auth.namespaces import ensure_namespace
from graphs.definition import errors
from graphs.definition.types import JsonObject
from graphs.models import Graph
from graphs.services import publish
from graphs.services.kinds import Kinds


@dataclass(frozen=True)
class GraphFile:
    name: str
    definition: JsonObject


@dataclass(frozen=True)
class Published:
    """A graph after its file was published. `is_new` says whether that made a version."""

    name: str
    version: int
    is_new: bool


def read(paths: Iterable[Path]) -> list[GraphFile]:
    """The graphs in these files, and in the .json files of these folders, in order.

    Raises Malformed, which names the file, for one that can't be read or isn't a definition.
    """
    return [_read(path) for path in _files(paths)]


def publish_all(
    namespace: str, files: Iterable[GraphFile], caller: Caller = SYSTEM
) -> list[Published]:
    """Publish these graphs: all of them, or none. What has not changed keeps its version.

    The namespace is made if it doesn't exist. Raises what `publish_graph` raises, with the name of
    the graph.
    """
    published = []
    with transaction.atomic():
        space = ensure_namespace(namespace, caller)
        for file in files:
            before = _current_number(namespace, file.name)
            with _naming(file):
                graph = publish.publish_graph(space, file.name, file.definition, caller)
            number = graph.current.number if graph.current else 0
            published.append(Published(file.name, number, number != before))
    return published


def changed(namespace: str, files: Iterable[GraphFile], caller: Caller = SYSTEM) -> list[str]:
    """The names of the graphs of which publishing would make a version. Nothing is stored.

    Raises InvalidGraph for the first one that can't be published.
    """
    names = []
    for file in files:
        with _naming(file):
            kinds = Kinds(namespace, file.definition, caller)
            publish.require_valid(file.definition, kinds)
        graph = _graph(namespace, file.name)
        checksum = publish.checksum_of(kinds.resolved(file.definition))
        if graph is None or graph.current is None or graph.current.checksum != checksum:
            names.append(file.name)
    return names


def write(namespace: str, folder: Path) -> list[Path]:
    """Write the current version of each graph of a namespace into the folder.

    A file that says the same already is left as it is. Returns the files that were written. Raises
    NotFound if there is no graph.
    """
    graphs = Graph.objects.with_version().filter(namespace__name=namespace).order_by("name")
    current = [graph for graph in graphs if graph.current]
    if not current:
        raise errors.NotFound(f"There is no published graph in the namespace {namespace!r}.")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for graph in current:
        assert graph.current is not None
        text = json.dumps(
            {"name": graph.name, **graph.current.definition}, indent=2, ensure_ascii=False
        )
        path = folder / f"{graph.name}.json"
        if not path.exists() or path.read_text(encoding="utf-8") != f"{text}\n":
            path.write_text(f"{text}\n", encoding="utf-8")
            written.append(path)
    return written


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob("*.json"))
        else:
            yield path


def _read(path: Path) -> GraphFile:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise errors.Malformed(f"{path} can't be read: {error}.") from None
    if not isinstance(content, dict):
        raise errors.Malformed(f"{path} holds no definition of a graph, which is a JSON object.")
    name = content.pop("name", path.stem)
    if not isinstance(name, str):
        raise errors.Malformed(f"{path}: the name of a graph is text, not {name!r}.")
    return GraphFile(name, content)


@contextmanager
def _naming(file: GraphFile) -> Iterator[None]:
    """Put the name of the graph before the message of an error."""
    try:
        yield
    except errors.StateManagerError as error:
        raise type(error)(f"{file.name}: {error.detail}", **error.extra) from None


def _graph(namespace: str, name: str) -> Graph | None:
    graphs = Graph.objects.with_version()
    return graphs.filter(namespace__name=namespace, name=name).first()


def _current_number(namespace: str, name: str) -> int:
    graph = _graph(namespace, name)
    return graph.current.number if graph and graph.current else 0
