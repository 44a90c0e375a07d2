"""`python -m tests.chaos.actor POINT GRAPH`: does what comes by this failpoint, as a caller would in a process of its own."""

import sys

import django


def main(point: str, graph_id: str) -> None:
    django.setup()
    from graphs.access import SYSTEM, caller_of_command
    from graphs.models import Graph
    from runs import carrying, operations, stopping
    from runs.models import BulkOperation, Run
    from runs.starting import RunOptions, start_run

    if point == "run-created-before-response":
        start_run(Graph.objects.get(pk=graph_id), RunOptions(run_id="asked"))
    elif point == "cancel-between-flag-and-states":
        stopping.cancel_run(Run.objects.get(run_id="asked"), SYSTEM)
    elif point == "bulk-delete-between-batches":
        if not BulkOperation.objects.exists():
            operations.ask("delete", {"label": ["doomed=yes"]}, caller_of_command(), {"active": "delete"})
        while carrying.carry_on(5):
            pass
    elif point == "checkpoint-put-before-commit":
        from langgraph.checkpoint.base import empty_checkpoint

        from runs.checkpoints import DjangoSaver

        saver, checkpoint = DjangoSaver("alpha"), empty_checkpoint()
        checkpoint["channel_values"], checkpoint["channel_versions"] = {"a": 1}, {"a": "1"}
        saver.put({"configurable": {"thread_id": "asked", "checkpoint_ns": ""}}, checkpoint, {"step": 1}, {"a": "1"})
    else:
        raise SystemExit(f"nothing here comes by {point}")


if __name__ == "__main__":
    main(*sys.argv[1:])
