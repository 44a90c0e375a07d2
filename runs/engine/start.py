"""Starting a run: the run, its root states, its first log line and the wake-up hint, in one transaction."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from django.db import IntegrityError, transaction

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors, names, payloads, references, uuids, validation
from graphs.definition.plan import Plan
from graphs.models import Dataset, Graph, GraphVersion, Namespace, plan_of
from graphs.nodes.base import registry
from runs.core import sql
from runs.core.failpoints import failpoint
from runs.engine import wakeup
from runs.engine.advance import Recorded, new_state
from runs.engine.store import insert, insert_lines, new_row
from runs.engine.types import NewState, RunFacts
from runs.models import AuditEntry, LogLine, Run, Tombstone

MAX_DELAY_SECONDS = 10 * 366 * 24 * 3600


@dataclass
class RunOptions:
    """What a caller may choose. `delay` is in seconds; `inputs` override the inputs that root nodes declare."""

    run_id: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    store: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    workspace: str = ""
    session_id: str = ""
    purpose: str = ""
    sop: str = ""
    max_steps: int | None = None
    delay: float = 0.0

    def fingerprint(self, graph: Graph | None, dataset: Dataset | None) -> str:
        """The same for the same request, so that a repeated one finds the run that it made."""
        asked = [graph.pk if graph else None, dataset.pk if dataset else None, asdict(self)]
        return hashlib.sha256(payloads.dump(asked).encode()).hexdigest()


def start_run(
    graph: Graph,
    options: RunOptions | None = None,
    dataset: Dataset | None = None,
    caller: Caller = SYSTEM,
    trigger: str = "api",
    version: GraphVersion | None = None,
    parent: Run | None = None,
) -> Run:
    """Queue a run of the graph's current version, or of the given one, and return at once.

    Repeated with the same `run_id` and the same options it returns the run made the first time. Raises InvalidGraph, Malformed and, for a
    taken `run_id`, Conflict.
    """
    caller.require("rerun" if parent else "start", graph.namespace_id)
    asked, version = options or RunOptions(), version or graph.current
    options = _with_defaults(asked, version)
    plan = _startable(graph, version, options)
    if asked.run_id:
        asked.run_id = options.run_id = names.checked("run id", asked.run_id)
    fingerprint = _checked(asked, graph, dataset)
    run = _row(graph.namespace, options, caller, trigger, fingerprint)
    run.graph, run.version, run.dataset = graph, version, dataset
    _descend(run, parent)
    facts = RunFacts(
        0,
        run.run_id,
        graph.namespace_id,
        graph.namespace.name,
        run.version_id or 0,
        run.dataset_id,
        options.inputs,
        options.store,
    )
    try:
        roots = [_root(facts, name) for name in plan.shape.roots]
    except (references.Unresolved, payloads.NotJson) as error:
        raise errors.Malformed(f"The first inputs can't be made: {error}.") from None
    for root in roots:
        root.delay = options.delay
    run.pending_count = run.started_count = len(roots)
    run.log_count = 1
    run.reruns_left = plan.reruns if parent is None else 0
    run.node_counts = {root.identifier: [1, 0, 0] for root in roots}
    try:
        with transaction.atomic():
            run.save(force_insert=True)
            _note(run, options, caller)
            facts.pk = run.pk
            statements = sql.Statements()
            insert([new_row(root) for root in roots], statements)
            first_line = f"Starting graph execution with {len(plan.order)} nodes"
            insert_lines(
                [[run.pk, None, 0, "", "info", first_line, sql.stamp(run.created_at)]], statements
            )
            statements.flush()
            if not options.delay:
                wakeup.hint()
    except IntegrityError:
        return _made_before(run, fingerprint)
    failpoint("run-created-before-response")
    return run


def start_outside(
    namespace: Namespace,
    options: RunOptions,
    caller: Caller = SYSTEM,
    trigger: str = "api",
    parent: Run | None = None,
) -> Run:
    """Note a run without a graph: an outside program drives it and reports; nothing of it is executed here. Repeats like `start_run`."""
    caller.require("rerun" if parent else "start", namespace.pk)
    if options.run_id:
        options.run_id = names.checked("run id", options.run_id)
    run = _row(namespace, options, caller, trigger, _checked(options, None, None))
    run.log_count = 1
    _descend(run, parent)
    try:
        with transaction.atomic():
            run.save(force_insert=True)
            _note(run, options, caller)
            LogLine.objects.create(
                run=run, message="The run was noted; an outside program drives it"
            )
    except IntegrityError:
        return _made_before(run, run.fingerprint)
    return run


def start_empty(original: Run, options: RunOptions, caller: Caller) -> Run:
    """A rerun's row without states, to be filled in the same transaction (`runs.actions.partial_rerun`)."""
    caller.require("rerun", original.namespace_id)
    run = _row(
        original.namespace,
        options,
        caller,
        Run.Trigger.RERUN,
        _checked(options, original.graph, original.dataset),
    )
    run.graph, run.version, run.dataset = original.graph, original.version, original.dataset
    _descend(run, original)
    run.save(force_insert=True)
    _note(run, options, caller)
    return run


def _descend(run: Run, parent: Run | None) -> None:
    run.parent, run.root = parent, (parent.root or parent.pk) if parent else None


def _note(run: Run, options: RunOptions, caller: Caller) -> None:
    """What follows the insertion of a run's row: an id that the caller chose must not be a deleted run's."""
    if options.run_id:
        Tombstone.objects.refuse(run.namespace_id, run.run_id)
    if caller.via != "system":
        AuditEntry.objects.record(caller, "start", run)


def _with_defaults(options: RunOptions, version: GraphVersion | None) -> RunOptions:
    """Inputs that nobody gave are what the graph's schema says they usually are."""
    defaults = plan_of(version.pk).input_defaults if version else {}
    return replace(options, inputs={**defaults, **options.inputs}) if defaults else options


def _startable(graph: Graph, version: GraphVersion | None, options: RunOptions) -> Plan:
    if not 0 <= options.delay <= MAX_DELAY_SECONDS:
        raise errors.Malformed(f"The delay is from 0 to {MAX_DELAY_SECONDS:,} seconds.")
    if version is None:
        raise errors.InvalidGraph(f"The graph {graph} has no version to run.")
    if version.problems:
        raise errors.InvalidGraph(
            f"The graph {graph} can't run: {'; '.join(each['message'] for each in version.problems)}"
        )
    plan = plan_of(version.pk)
    if plan.inputs_schema is not None:
        wrong = [
            f"{'/'.join(map(str, error.instance_path)) or 'inputs'}: {error.message}"
            for error in _input_errors(plan, options)
        ]
        if wrong:
            raise errors.Malformed("The inputs don't fit the graph's schema.", errors=wrong)
    if missing := [
        key
        for key in plan.store_required
        if key not in options.store and key not in plan.store_defaults
    ]:
        raise errors.StateManagerError(f"The store keys {', '.join(missing)} are required.")
    return plan


def _input_errors(plan: Plan, options: RunOptions) -> list[Any]:
    return list(
        validation.schema_validator(plan.inputs_schema or {}).iter_errors(dict(options.inputs))
    )


def _checked(options: RunOptions, graph: Graph | None, dataset: Dataset | None) -> str:
    """The fingerprint; refuses what can't be stored."""
    try:
        return options.fingerprint(graph, dataset)
    except payloads.NotJson as error:
        raise errors.Malformed(f"The request can't be stored: {error}.") from None


def _row(
    namespace: Namespace, options: RunOptions, caller: Caller, trigger: str, fingerprint: str
) -> Run:
    return Run(
        namespace=namespace,
        run_id=options.run_id or uuids.dashed(uuids.uuid7()),
        name=options.name,
        user=caller.user,
        username=caller.label if caller.user else "",
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


def _root(run: RunFacts, identifier: str) -> NewState:
    """The state of a root node; run inputs replace those that it declares and are never parsed as templates."""
    state = new_state(run, identifier, "", None, Recorded(()))
    kind = registry.get(run.plan.nodes[identifier].kind)
    declared = set(state.inputs) | (set(kind.inputs.model_fields) if kind else set())
    state.inputs = {
        **state.inputs,
        **{key: value for key, value in run.inputs.items() if key in declared},
    }
    state.inputs_json = payloads.dump(state.inputs)
    return state


def _made_before(run: Run, fingerprint: str) -> Run:
    found = Run.objects.filter(namespace=run.namespace, run_id=run.run_id).first()
    if found and found.fingerprint == fingerprint:
        return found
    if found is None:
        raise errors.NotFound(
            f"The graph {run.graph or ''} or what it needs was deleted at this moment."
        )
    raise errors.Conflict(
        f"The run id {run.run_id!r} is taken in namespace {run.namespace.name!r} by a run with another graph or other inputs."
    )
