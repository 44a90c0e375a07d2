"""Starting runs of the example graphs."""

from graphs.auth.callers import Caller
from graphs.models import Namespace
from graphs.services import examples
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import Run


def start(name: str, namespace: Namespace, caller: Caller, run_id: str = "") -> Run:
    """Put the example into the namespace and start a run of it.

    The bundled dataset is loaded if the example reads tables.
    """
    example = examples.example_named(name)
    graph = examples.put(name, namespace, caller)
    dataset = examples.load_dataset(namespace, caller) if example.dataset else None
    options = RunOptions(run_id=run_id, name=example.title)
    return start_run(graph, options, dataset, caller, Run.Trigger.ADMIN)
