"""The example graphs that we ship: what each shows, what it needs, putting it into a namespace, and starting it."""

import importlib.util
from dataclasses import dataclass
from functools import lru_cache

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.models import Graph, Namespace
from graphs.services import examples, publish
from runs.engine.start import RunOptions, start_run
from runs.models import Run


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
        Example("approval", "Wait for a person", "Drafts something, waits until somebody approves it, and goes on either way."),
        Example("fan-out", "One branch for each item", "Makes a branch for each item of a list, works on all at once, and unites the results."),
        Example(
            "langgraph-thread",
            "A LangGraph application",
            "Runs a LangGraph application whose thread is a run of its own, up to its question, and on with the answer.",
            needs="langgraph",
        ),
    )
}


@lru_cache(maxsize=1)
def lacking() -> frozenset[str]:
    """The packages that examples need and that are not installed."""
    return frozenset(each.needs for each in EXAMPLES.values() if each.needs and importlib.util.find_spec(each.needs) is None)


def _example(name: str) -> Example:
    if name not in EXAMPLES:
        raise errors.NotFound(f"There is no example {name[:50]!r}.")
    if EXAMPLES[name].needs in lacking():
        raise errors.Conflict(f"This example needs {EXAMPLES[name].needs}: pip install -r requirements-langgraph.txt langgraph")
    return EXAMPLES[name]


def put(name: str, namespace: Namespace, caller: Caller) -> Graph:
    """The example as a published graph of the namespace; the one that is there is taken, whatever was made of it."""
    _example(name)
    caller.require("start", namespace.pk)
    found = Graph.objects.with_version().filter(namespace=namespace, name=name).first()
    if found is not None and found.current is not None:
        return found
    return publish.publish(namespace, name, examples.definition(name), caller, "an example")


def start(name: str, namespace: Namespace, caller: Caller, run_id: str = "") -> Run:
    """Start a run of the example, with the bundled dataset if it reads tables."""
    example, graph = _example(name), put(name, namespace, caller)
    dataset = examples.load_dataset(namespace) if example.dataset else None
    return start_run(graph, RunOptions(run_id=run_id, name=example.title), dataset, caller, Run.Trigger.ADMIN)
