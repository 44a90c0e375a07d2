"""`python -m tests.chaos.actor POINT GRAPH`: a caller's action that passes the given failpoint.

The action runs in a process of its own, which the test may kill. Repeating the action does no harm:
what the first process recorded is found, and what it did not record is done.
"""

import sys

import django

CHECKPOINT_ID = "1f0e0000-0000-6000-8000-000000000001"
RUN_ID = "the-run"


def start(graph_id: str) -> None:
    from graphs.models import Graph
    from runs.engine.new_run import RunOptions
    from runs.engine.start import start_run

    start_run(Graph.objects.get(pk=graph_id), RunOptions(run_id=RUN_ID))


def cancel(graph_id: str) -> None:
    from graphs.auth.callers import SYSTEM
    from graphs.definition.errors import Conflict
    from runs.engine import control
    from runs.models import Run

    run = Run.objects.get(run_id=RUN_ID)
    try:
        control.cancel_run(run, SYSTEM)
    except Conflict:  # the first process cancelled the run
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

    saver = DjangoSaver("alpha")
    checkpoint = empty_checkpoint() | {"id": CHECKPOINT_ID}
    checkpoint["channel_values"] = {"a": 1}
    checkpoint["channel_versions"] = {"a": "1"}
    config = {"configurable": {"thread_id": RUN_ID, "checkpoint_ns": ""}}
    saver.put(config, checkpoint, {"step": 1}, {"a": "1"})


def put_run_state(graph_id: str) -> None:
    from graphs.auth.callers import SYSTEM
    from runs.external import updates
    from runs.external.run_state import NodeState, RunState, RunStatus
    from runs.models import Run

    search = NodeState("search", status="running", attempts=1, idempotency_key="search of the run")
    state = RunState(
        RUN_ID,
        status=RunStatus.RUNNING,
        current_node="search",
        node_states={"search": search},
        started_at=1.0,
        updated_at=1.0,
    )
    updates.put_run_state(Run.objects.get(run_id=RUN_ID), state, SYSTEM)


ACTIONS = {
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
    ACTIONS[sys.argv[1]](sys.argv[2])
