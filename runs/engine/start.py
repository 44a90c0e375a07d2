"""Starting a run.

`start_run` does it in one transaction, on PostgreSQL in one statement (`start_statement`):

1. It inserts the run, and refuses the id of a deleted run.
2. It inserts the root states, ready to be claimed, and the first log line.
3. It adds a hint, which wakes a worker when the transaction commits.

Inputs are checked and rendered before. If the run id is taken, the run that has it is returned,
provided that it was started by the same request.
"""

from contextlib import nullcontext
from datetime import timedelta

from django.db import IntegrityError, connection, transaction

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors, labels, names
from graphs.models import Dataset, Graph, GraphVersion, Namespace
from runs.core import sql
from runs.core.failpoints import failpoint
from runs.engine import (
    concurrency,
    deadlines,
    input_index,
    log_lines,
    quota,
    start_statement,
    store,
    wakeup,
)
from runs.engine.new_run import (
    RunOptions,
    Start,
    check_delay,
    fingerprint_of,
    new_run,
    prepare,
    set_parent,
    startable,
)
from runs.models import AuditEntry, LogLine, QueueEntry, Run, Tombstone

# --- starting ------------------------------------------------------------------------------------


def start_run(
    graph: Graph,
    options: RunOptions | None = None,
    dataset: Dataset | None = None,
    caller: Caller = SYSTEM,
    trigger: str = "api",
    version: GraphVersion | None = None,
    parent: Run | None = None,
) -> Run:
    """Start a run of the graph's current version, or of the given one, without waiting for it.

    Repeated with the same `run_id` and the same options, it returns the run that it started the
    first time. Raises InvalidGraph, Malformed, TooLarge, and Conflict if the `run_id` is taken.
    """
    caller.require("rerun" if parent else "start", graph.namespace_id)
    version = startable(graph, version or graph.current)
    start = prepare(graph, version, options or RunOptions(), dataset, caller, trigger, parent)
    run = start.run
    try:
        if not _inserted_at_once(start, caller):
            with transaction.atomic():
                _insert_new_run(run, start.options, caller)
                start.facts.pk = run.pk
                _insert_roots(start)
                concurrency.take_slots([start], caller)
                if not start.options.delay:
                    wakeup.hint()
    except IntegrityError:
        return started_before(run)
    failpoint("run-created-before-response")
    return run


def start_outside(
    namespace: Namespace,
    options: RunOptions,
    caller: Caller = SYSTEM,
    trigger: str = "api",
    parent: Run | None = None,
) -> Run:
    """Start an external run: an outside program drives it, and nothing is executed here.

    A rerun, a delayed run and one with `enqueue` wait in the queue for a program that takes them.
    Other runs are driven by the program that starts them. Repeats and errors are those of
    `start_run`.
    """
    caller.require("rerun" if parent else "start", namespace.pk)
    check_delay(options.delay)
    if parent is None:
        labels.check(options.labels)
    if options.run_id:
        options.run_id = names.checked("run id", options.run_id)
    run = new_run(namespace, options, caller, trigger, fingerprint_of(options, None, None))
    run.log_count = 1
    set_parent(run, parent)
    is_queued = parent is not None or options.enqueue or options.delay > 0
    how = "it waits in the queue for a program" if is_queued else "an outside program drives it"
    try:
        with transaction.atomic():
            _insert_new_run(run, options, caller)
            LogLine.objects.create(run=run, message=f"The run was created; {how}")
            if is_queued:
                available_at = sql.clock() + timedelta(seconds=options.delay)
                QueueEntry.objects.create(run=run, namespace=namespace, available_at=available_at)
    except IntegrityError:
        return started_before(run)
    return run


def start_empty(original: Run, options: RunOptions, caller: Caller, pk: int | None = None) -> Run:
    """Insert a rerun without states; the caller adds them in the same transaction.

    For `runs.actions.partial_rerun`. `pk` is a row id that was reserved for the run.
    """
    caller.require("rerun", original.namespace_id)
    quota.require_room(original.namespace)
    fingerprint = fingerprint_of(options, original.graph, original.dataset)
    run = new_run(original.namespace, options, caller, Run.Trigger.RERUN, fingerprint)
    run.graph = original.graph
    run.version = original.version
    run.dataset = original.dataset
    run.priority = original.priority
    run.pk = pk
    set_parent(run, original)
    _insert_run(run, options, caller)
    if run.graph:
        input_index.store(run)
    return run


# --- inserting -----------------------------------------------------------------------------------


def _insert_new_run(run: Run, options: RunOptions, caller: Caller) -> None:
    """Insert the run if its namespace has room for it. A repeated start finds its run instead."""
    problem = quota.problem(run.namespace)  # before the bytes of this run are among those stored
    _insert_run(run, options, caller)
    if problem:
        raise errors.TooLarge(problem)


def _inserted_at_once(start: Start, caller: Caller) -> bool:
    """Insert the run and what belongs to it in one statement, if that is possible.

    A chosen run id takes a transaction: it may be that of a run that is just being deleted.
    """
    if not sql.postgres() or not start.roots:
        return False
    run, options = start.run, start.options
    problem = quota.problem(run.namespace)
    states = [store.state_row(root) for root in start.roots]
    entry = AuditEntry.objects.entry(caller, "start", run) if caller.via != "system" else None
    has_limits = deadlines.has_limits(options, start.facts.plan)
    needs_more = options.run_id or has_limits or start.slot or problem
    is_alone = not (connection.in_atomic_block or needs_more)
    with nullcontext() if is_alone else transaction.atomic():
        done = start_statement.insert(
            run, states, start.first_line, entry, hinted=not options.delay
        )
        if done and options.run_id:
            Tombstone.objects.refuse(run.namespace_id, run.run_id)
        if done and has_limits:
            deadlines.store(run, options)
        if done and start.slot:
            concurrency.take_slots([start], caller)
        if done and problem:
            raise errors.TooLarge(problem)
    return done


def _insert_run(run: Run, options: RunOptions, caller: Caller) -> None:
    run.save(force_insert=True)
    deadlines.store(run, options)
    if options.run_id:
        Tombstone.objects.refuse(run.namespace_id, run.run_id)
    if caller.via != "system":
        AuditEntry.objects.record(caller, "start", run)


def started_before(run: Run) -> Run:
    """The run that has this run's id. Raises Conflict unless the same request started it."""
    existing = Run.objects.filter(namespace=run.namespace, run_id=run.run_id).first()
    if existing is None:
        raise errors.NotFound(
            f"The graph {run.graph or ''} or something that it needs was just deleted."
        )
    if existing.fingerprint != run.fingerprint:
        raise errors.Conflict(
            f"The run id {run.run_id!r} is taken in namespace {run.namespace.name!r} by a run "
            "with another graph or other inputs."
        )
    return existing


def _insert_roots(start: Start) -> None:
    statements = sql.Statements()
    input_index.add_to(statements, start.run)
    store.insert_states([store.state_row(root) for root in start.roots], statements)
    log_lines.insert([start.first_line], statements)
    input_index.store(start.run, statements.flush())
