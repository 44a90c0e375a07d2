"""`python -m tests.chaos.actor POINT GRAPH`: does what comes by this failpoint, as a caller would in a process of its own.

Done again it must do no harm, and find what was done the first time if that was recorded.
"""

import sys

import django

CHECKPOINT_ID = "1f0e0000-0000-6000-8000-000000000001"


def start(graph_id: str) -> None:
    from graphs.models import Graph
    from runs.engine.start import RunOptions, start_run

    start_run(Graph.objects.get(pk=graph_id), RunOptions(run_id="asked"))


def cancel(graph_id: str) -> None:
    from graphs.auth.callers import SYSTEM
    from graphs.definition.errors import Conflict
    from runs.engine import control
    from runs.models import Run

    run = Run.objects.get(run_id="asked")
    try:
        control.cancel_run(run, SYSTEM)
    except Conflict:  # so it was done the first time
        assert run.status == "cancelled"


def delete(graph_id: str) -> None:
    from graphs.auth.callers import caller_of_command
    from runs.actions import bulk, bulk_runner
    from runs.models import BulkOperation

    if not BulkOperation.objects.exists():
        bulk.ask("delete", {"label": ["doomed=yes"]}, caller_of_command(), {"active": "delete"})
    while bulk_runner.run_waiting(5):
        pass


def put_checkpoint(graph_id: str) -> None:
    from langgraph.checkpoint.base import empty_checkpoint

    from runs.langgraph.saver import DjangoSaver

    saver, checkpoint = DjangoSaver("alpha"), empty_checkpoint() | {"id": CHECKPOINT_ID}
    checkpoint["channel_values"], checkpoint["channel_versions"] = {"a": 1}, {"a": "1"}
    saver.put(
        {"configurable": {"thread_id": "asked", "checkpoint_ns": ""}},
        checkpoint,
        {"step": 1},
        {"a": "1"},
    )


def put_run_state(graph_id: str) -> None:
    from graphs.auth.callers import SYSTEM
    from runs.external import updates
    from runs.external.run_state import NodeState, RunState, RunStatus
    from runs.models import Run

    nodes = {
        "search": NodeState(
            "search", status="running", attempts=1, idempotency_key="search of asked"
        )
    }
    state = RunState(
        "asked",
        status=RunStatus.RUNNING,
        current_node="search",
        node_states=nodes,
        started_at=1.0,
        updated_at=1.0,
    )
    updates.put_run_state(Run.objects.get(run_id="asked"), state, SYSTEM)


ACTS = {
    "run-created-before-response": start,
    "cancel-between-flag-and-states": cancel,
    "after-cancel-commit": cancel,
    "bulk-delete-between-batches": delete,
    "checkpoint-put-before-commit": put_checkpoint,
    "after-checkpoint-put-commit": put_checkpoint,
    "after-run-state-commit": put_run_state,
}

if __name__ == "__main__":
    django.setup()
    ACTS[sys.argv[1]](sys.argv[2])
