"""Starting a run.

`start_run` does it in one transaction, on PostgreSQL in one statement (`start_statement`):

1. It inserts the run, and refuses the id of a deleted run.
2. It inserts the root states, ready to be claimed, and the first log line.
3. It adds a hint, which wakes a worker when the transaction commits.

Inputs are checked and rendered before. If the run id is taken, the run that has it is returned,
provided that it was started by the same request.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta

from django.db import IntegrityError, connection, transaction

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors, labels, names, payloads, uuids
from graphs.definition.plan import Plan
from graphs.definition.types import Json
from graphs.models import Dataset, Graph, GraphVersion, Namespace
from runs.core import sql
from runs.core.failpoints import failpoint
from runs.engine import (
    input_index,
    log_lines,
    priority,
    quota,
    run_inputs,
    start_statement,
    store,
    wakeup,
)
from runs.engine.advance import CannotFollow, new_state
from runs.engine.recorded_outputs import RecordedOutputs
from runs.engine.types import NewState, RunFacts
from runs.models import AuditEntry, LogLine, QueueEntry, Run, Tombstone

MAX_DELAY_SECONDS = 10 * 366 * 24 * 3600


@dataclass
class RunOptions:
    """What a caller may choose for a run.

    `inputs` override the inputs that root nodes declare. `delay` is in seconds. `max_steps` bounds
    the number of states that are started; None means the limit of the graph. So does None for
    `priority`. `enqueue` lets a program take an external run from the queue.
    """

    run_id: str = ""
    inputs: Mapping[str, Json] = field(default_factory=dict)
    store: Mapping[str, Json] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Json] = field(default_factory=dict)
    name: str = ""
    workspace: str = ""
    session_id: str = ""
    purpose: str = ""
    sop: str = ""
    max_steps: int | None = None
    delay: float = 0.0
    priority: int | None = None
    enqueue: bool = False

    def fingerprint(self, graph: Graph | None, dataset: Dataset | None) -> str:
        """A digest that is the same for the same request.

        By it a repeated request finds the run that it started. Raises NotJson.
        """
        options = dict(vars(self))
        # The digests of runs of earlier versions lack these.
        if self.priority is None:
            del options["priority"]
        if not self.enqueue:
            del options["enqueue"]
        request = [graph.pk if graph else None, dataset.pk if dataset else None, options]
        return hashlib.sha256(payloads.dump(request).encode()).hexdigest()


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
    requested = options or RunOptions()
    version = version or graph.current
    options = _with_defaults(requested, version)
    if parent is None:  # a rerun has the labels of its parent
        labels.check(options.labels)
    plan = _startable_plan(graph, version, options)
    if requested.run_id:
        requested.run_id = options.run_id = names.checked("run id", requested.run_id)

    run = _new_run(
        graph.namespace, options, caller, trigger, _fingerprint(requested, graph, dataset)
    )
    run.graph = graph
    run.version = version
    run.dataset = dataset
    run.priority = plan.priority if options.priority is None else options.priority
    _set_parent(run, parent)
    facts = RunFacts.of(run, version.checksum if version else "")
    roots = _root_states(facts, plan, options.delay)
    _count_roots(run, roots)
    run.reruns_left = plan.reruns if parent is None else 0
    first_line = f"Starting graph execution with {len(plan.order)} nodes"
    try:
        if not _inserted_at_once(run, roots, first_line, options, caller):
            with transaction.atomic():
                _insert_new_run(run, options, caller)
                facts.pk = run.pk
                _insert_roots(run, roots, first_line)
                if not options.delay:
                    wakeup.hint()
    except IntegrityError:
        return _started_before(run)
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
    run = _new_run(namespace, options, caller, trigger, _fingerprint(options, None, None))
    run.log_count = 1
    _set_parent(run, parent)
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
        return _started_before(run)
    return run


def start_empty(original: Run, options: RunOptions, caller: Caller, pk: int | None = None) -> Run:
    """Insert a rerun without states; the caller adds them in the same transaction.

    For `runs.actions.partial_rerun`. `pk` is a row id that was reserved for the run.
    """
    caller.require("rerun", original.namespace_id)
    quota.require_room(original.namespace)
    fingerprint = _fingerprint(options, original.graph, original.dataset)
    run = _new_run(original.namespace, options, caller, Run.Trigger.RERUN, fingerprint)
    run.graph = original.graph
    run.version = original.version
    run.dataset = original.dataset
    run.priority = original.priority
    run.pk = pk
    _set_parent(run, original)
    _insert_run(run, options, caller)
    if run.graph:
        input_index.store(run)
    return run


# --- checking ------------------------------------------------------------------------------------


def _with_defaults(options: RunOptions, version: GraphVersion | None) -> RunOptions:
    """The options, with the defaults of the graph's schema for inputs that were not given."""
    if version is None:
        return options
    return replace(options, inputs=run_inputs.with_defaults(options.inputs, version.plan))


def _startable_plan(graph: Graph, version: GraphVersion | None, options: RunOptions) -> Plan:
    """The plan of the version. Raises an error if it can't run with these options."""
    priority.check(options.priority or 0)
    check_delay(options.delay)
    if version is None:
        raise errors.InvalidGraph(f"The graph {graph} has no version to run.")
    if version.problems:
        problems = "; ".join(problem["message"] for problem in version.problems)
        raise errors.InvalidGraph(f"The graph {graph} can't run: {problems}")
    plan = version.plan
    run_inputs.check(options.inputs, plan.inputs_schema)
    missing = [
        key
        for key in plan.store_required
        if key not in options.store and key not in plan.store_defaults
    ]
    if missing:
        raise errors.StateManagerError(f"The store keys {', '.join(missing)} are required.")
    return plan


def check_delay(seconds: float) -> None:
    """Raises Malformed if a run can't start so much later."""
    if not 0 <= seconds <= MAX_DELAY_SECONDS:
        raise errors.Malformed(f"The delay is from 0 to {MAX_DELAY_SECONDS:,} seconds.")


def _fingerprint(options: RunOptions, graph: Graph | None, dataset: Dataset | None) -> str:
    """The fingerprint of the request. Raises Malformed if it can't be stored."""
    try:
        return options.fingerprint(graph, dataset)
    except payloads.NotJson as error:
        raise errors.Malformed(f"The request can't be stored: {error}.") from None


# --- the run -------------------------------------------------------------------------------------


def _new_run(
    namespace: Namespace, options: RunOptions, caller: Caller, trigger: str, fingerprint: str
) -> Run:
    return Run(
        namespace=namespace,
        run_id=options.run_id or uuids.dashed(uuids.uuid7()),
        name=options.name,
        user=caller.user,
        username=caller.username,
        workspace=options.workspace or namespace.name,
        session_id=options.session_id,
        purpose=options.purpose,
        sop=options.sop,
        trigger=trigger,
        labels=dict(options.labels),
        initial_data=dict(options.inputs),
        store=dict(options.store),
        metadata=dict(options.metadata),
        max_steps=options.max_steps,
        fingerprint=fingerprint,
    )


def _set_parent(run: Run, parent: Run | None) -> None:
    run.parent = parent
    if parent is None:
        run.root = None
    else:
        run.root = parent.root or parent.pk


def _insert_new_run(run: Run, options: RunOptions, caller: Caller) -> None:
    """Insert the run if its namespace has room for it. A repeated start finds its run instead."""
    problem = quota.problem(run.namespace)  # before the bytes of this run are among those stored
    _insert_run(run, options, caller)
    if problem:
        raise errors.TooLarge(problem)


def _inserted_at_once(
    run: Run, roots: Sequence[NewState], first_line: str, options: RunOptions, caller: Caller
) -> bool:
    """Insert the run and what belongs to it in one statement, if that is possible.

    A chosen run id takes a transaction: it may be that of a run that is just being deleted.
    """
    if not sql.postgres() or not roots:
        return False
    problem = quota.problem(run.namespace)
    states = [store.state_row(root) for root in roots]
    entry = AuditEntry.objects.entry(caller, "start", run) if caller.via != "system" else None
    in_transaction = connection.in_atomic_block or options.run_id
    with transaction.atomic() if in_transaction or problem else nullcontext():
        done = start_statement.insert(
            run, states, _line(run, first_line), entry, hinted=not options.delay
        )
        if done and options.run_id:
            Tombstone.objects.refuse(run.namespace_id, run.run_id)
        if done and problem:
            raise errors.TooLarge(problem)
    return done


def _insert_run(run: Run, options: RunOptions, caller: Caller) -> None:
    run.save(force_insert=True)
    if options.run_id:
        Tombstone.objects.refuse(run.namespace_id, run.run_id)
    if caller.via != "system":
        AuditEntry.objects.record(caller, "start", run)


def _started_before(run: Run) -> Run:
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


# --- the root states -----------------------------------------------------------------------------


def _root_states(facts: RunFacts, plan: Plan, delay: float) -> list[NewState]:
    try:
        roots = [_root_state(facts, identifier) for identifier in plan.shape.roots]
    except (CannotFollow, payloads.NotJson) as error:
        raise errors.Malformed(f"The run can't start: {error}.") from None
    for root in roots:
        root.delay = delay
    return roots


def _count_roots(run: Run, roots: Sequence[NewState]) -> None:
    run.pending_count = len(roots)
    run.started_count = len(roots)
    run.node_counts = {root.identifier: [1, 0, 0] for root in roots}
    run.log_count = 1
    run.stored_bytes = sum(root.size for root in roots)


def _root_state(run: RunFacts, identifier: str) -> NewState:
    """The state of a root node.

    The inputs of the run replace those that the node declares. Their values are used as they are,
    without looking for placeholders.
    """
    state = new_state(run, identifier, "", None, RecordedOutputs())
    kind = run.plan.nodes[identifier].kind
    state.inputs = run_inputs.replaced(kind, state.inputs, run.inputs)
    state.inputs_json = payloads.dump(state.inputs)
    return state


def _insert_roots(run: Run, roots: Iterable[NewState], first_line: str) -> None:
    statements = sql.Statements()
    input_index.add_to(statements, run)
    store.insert_states([store.state_row(root) for root in roots], statements)
    log_lines.insert([_line(run, first_line)], statements)
    input_index.store(run, statements.flush())


def _line(run: Run, message: str) -> list[object]:
    return [run.pk, None, 0, "", "info", message, sql.stamp(run.created_at)]
