"""The runs whose nodes run LangGraph threads. A thread is a run of its own, without a graph."""

from graphs.definition import errors
from graphs.definition.types import JsonObject
from runs.models import Run

MEMBER = "started_by"  # of the origin of a thread's run


def started_by(run: int, run_id: str, node: str) -> JsonObject:
    """The origin of a thread that a node of this run makes."""
    return {MEMBER: {"run": run, "run_id": run_id, "node": node}}


def has_driver(run: Run) -> bool:
    """Whether a node of ours made this thread."""
    return MEMBER in (run.origin or {})


def driver_of(run: Run) -> Run | None:
    """The run whose node runs this thread; None for a run that is no such thread.

    Raises Conflict if that run was deleted: nothing else can run the thread.
    """
    if not has_driver(run):
        return None
    assert run.origin is not None
    place = run.origin[MEMBER]
    driver = Run.objects.filter(
        pk=place["run"], run_id=place["run_id"], namespace=run.namespace_id
    ).first()
    if driver is None:
        raise errors.Conflict(
            f"The node {place['node']} of the run {place['run_id']} ran this thread, and that run"
            " was deleted.",
            allowed=[],
        )
    return driver


def rerun_for(run: Run) -> Run:
    """The run that a rerun of this one reruns. If its driver is gone, the rerun is refused."""
    try:
        return driver_of(run) or run
    except errors.Conflict:
        return run


def sentence(run: Run) -> str:
    """Which node of which run runs this thread."""
    assert run.origin is not None
    place = run.origin[MEMBER]
    return f"The node {place['node']} of the run {place['run_id']} runs this thread."
