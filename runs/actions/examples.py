"""Starting a run of an example graph."""

from graphs.auth.callers import Caller
from graphs.models import Namespace
from graphs.services import examples
from runs.engine.start import RunOptions, start_run
from runs.models import Run


def start(name: str, namespace: Namespace, caller: Caller, run_id: str = "") -> Run:
    """Start a run of the example, with the bundled dataset if it reads tables."""
    example, graph = examples.example_named(name), examples.put(name, namespace, caller)
    dataset = examples.load_dataset(namespace) if example.dataset else None
    return start_run(
        graph, RunOptions(run_id=run_id, name=example.title), dataset, caller, Run.Trigger.ADMIN
    )
