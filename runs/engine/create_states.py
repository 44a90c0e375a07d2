"""Making states at any nodes of a graph, instead of starting the graph at its roots.

Each call is a *branch* of its run, as if the run itself had fanned out: joins and references see
the states of one call together, and keep those of several calls apart. States of one call of which
one leads to the other are in different branches, too.
"""

from collections.abc import Iterable, Mapping, Sequence

from django.db import IntegrityError, transaction

from graphs.auth.callers import Caller
from graphs.definition import errors, merge, names, payloads, uuids
from graphs.definition.plan import Plan
from graphs.definition.types import Json, JsonObject
from graphs.models import Graph, GraphVersion
from runs.core import paths, statuses
from runs.engine import (
    concurrency,
    counters,
    deadlines,
    input_index,
    quota,
    run_inputs,
    slots,
    store,
    wakeup,
)
from runs.engine.counters import RunCounters
from runs.engine.new_run import RunOptions, TimeLimits, check_delay
from runs.engine.types import NewState, RunFacts
from runs.models import AuditEntry, LogLine, Run, State, Tombstone

OF_GRAPH = TimeLimits()
RequestedState = tuple[str, Json]  # identifier, and inputs that are used as they are


def create_states(
    graph: Graph,
    run_id: str,
    requested: Sequence[RequestedState],
    caller: Caller,
    right: str = "start",
    inputs: Mapping[str, Json] | None = None,
    delay: float = 0.0,
    limits: TimeLimits = OF_GRAPH,
    takes_slot: bool = True,
) -> tuple[Run, list[NewState]]:
    """Make all of these states, in a new run or in one that has not ended, or none of them.

    `inputs` are those of the run, which placeholders of later nodes refer to; the states have their
    own. `delay` is in seconds, until the states are ready; `limits` are those of a new run. Without
    `takes_slot` the caller does what a concurrency limit asks for, in the same transaction.

    Raises NotFound for an identifier that the graph doesn't have, Malformed for inputs that don't
    fit the graph's schema, and Conflict if the run has ended, belongs to another graph or has other
    inputs.
    """
    caller.require(right, graph.namespace_id)
    run_id = names.checked("run id", run_id) if run_id else uuids.dashed(uuids.uuid7())
    version = graph.current
    if version is None:
        raise errors.InvalidGraph(f"The graph {graph} has no version to run.")
    _check_identifiers(version.plan, requested)
    check_delay(delay)
    if inputs is not None:
        inputs = _checked_inputs(inputs, version.plan)
    try:
        with transaction.atomic():
            run, is_new = _run_of(graph, run_id, caller, inputs, delay, limits)
            states = _add_states(run, _checksum(run, version), requested, delay)
            if not is_new and version.plan.concurrency:
                slots.keep_back(run.pk)
            elif is_new and takes_slot and (slot := concurrency.wanted(run, version.plan)):
                concurrency.take([concurrency.Ask(run, slot, delay)], caller)
            if not is_new:
                identifiers = ", ".join(dict(requested))
                AuditEntry.objects.record(caller, "create_states", run, identifiers)
            return run, states
    except IntegrityError:
        raise errors.Conflict(f"The run {run_id!r} was just deleted.") from None


def _run_of(
    graph: Graph,
    run_id: str,
    caller: Caller,
    inputs: Mapping[str, Json] | None,
    delay: float,
    limits: TimeLimits,
) -> tuple[Run, bool]:
    """The run of this id, and whether it was made now.

    Raises Conflict for one of another graph or with other inputs, and TooLarge without room.
    """
    run, is_new = Run.objects.get_or_create(
        namespace=graph.namespace,
        run_id=run_id,
        defaults={**_columns(graph, caller), "initial_data": inputs or {}},
    )
    if is_new:
        quota.require_room(graph.namespace)
        Tombstone.objects.refuse(run.namespace_id, run_id)
        AuditEntry.objects.record(caller, "start", run)
        input_index.store(run)
        deadlines.store(run, RunOptions(delay=delay, **limits._asdict()))
    if run.graph_id != graph.pk:
        raise errors.Conflict(f"The run id {run_id!r} belongs to a run of another graph.")
    if inputs is not None and not merge.same(inputs, run.initial_data):
        raise errors.Conflict(f"The run {run_id!r} has other inputs.")
    return run, is_new


def _columns(graph: Graph, caller: Caller) -> dict[str, object]:
    return {
        "graph": graph,
        "version_id": graph.current_id,
        "priority": graph.current.plan.priority if graph.current else 0,
        "workspace": graph.namespace.name,
        "user": caller.user,
        "username": caller.username,
    }


def _checked_inputs(inputs: Mapping[str, Json], plan: Plan) -> JsonObject:
    """The inputs of the run with their defaults. Raises Malformed if they are not valid."""
    inputs = run_inputs.with_defaults(inputs, plan)
    run_inputs.check(inputs, plan.inputs_schema)
    _dumped("the run", inputs)
    return inputs


def _check_identifiers(plan: Plan, requested: Iterable[RequestedState]) -> None:
    unknown = sorted({identifier for identifier, _ in requested} - plan.nodes.keys())
    if unknown:
        quoted = ", ".join(map(repr, unknown))
        raise errors.NotFound(f"The graph has no node {quoted}; no state was made.")


def _checksum(run: Run, current: GraphVersion) -> str:
    """The checksum of the run's version, which may be older than the graph's current one."""
    if run.version_id in (current.pk, None):
        return current.checksum
    checksums = GraphVersion.objects.values_list("checksum", flat=True)
    return str(checksums.get(pk=run.version_id))


def _add_states(
    run: Run, checksum: str, requested: Sequence[RequestedState], delay: float
) -> list[NewState]:
    if run.version_id is None:
        raise errors.Conflict(
            f"An outside program drives the run {run.run_id!r}; no states can be made in it here."
        )
    facts = RunFacts.of(run, checksum)
    _check_identifiers(facts.plan, requested)
    run_counters = _locked(run, facts.plan)
    first_branch = State.objects.filter(run=run, parent=None).count()
    _check_branches(run, facts.plan, first_branch)

    states = _new_states(facts, requested, first_branch)
    for state in states:
        state.delay = delay
    refusal = run_counters.refusal(sum(state.size for state in states))
    if refusal:
        raise errors.TooLarge(f"No state was made: {refusal}.")
    for state in states:
        run_counters.enter(state)
    store.insert_states_now(states, run_counters.paused)
    identifiers = ", ".join(dict(requested))
    message = f"{len(states)} states were made: {identifiers}"
    LogLine.objects.create(run=run, message=message[:2000])
    run_counters.log_count += 1
    if run_counters.status != statuses.RUN_QUEUED:
        run_counters.update_status()
    counters.store([run_counters])
    is_ours = any(not facts.plan.nodes[state.identifier].worker_namespace for state in states)
    if is_ours and not delay:
        wakeup.hint()
    return states


def _locked(run: Run, plan: Plan) -> RunCounters:
    run_counters = counters.lock([run.pk], {run.pk: plan}).get(run.pk)
    if run_counters is None:
        raise errors.Conflict(f"The run {run.run_id!r} was just deleted.")
    if not run_counters.open:
        raise errors.Conflict(
            f"The run {run.run_id!r} has ended: it is {run_counters.status}.",
            allowed=["retry-failed"],
        )
    return run_counters


def _new_states(
    facts: RunFacts, requested: Sequence[RequestedState], first_branch: int
) -> list[NewState]:
    branches = _branches(facts.plan, [identifier for identifier, _ in requested])
    states = []
    for (identifier, inputs), branch in zip(requested, branches, strict=True):
        path = paths.below("", paths.BRANCH, first_branch + branch)
        inputs_json = _dumped(identifier, inputs)
        states.append(NewState(uuids.uuid7(), facts, identifier, path, None, inputs, inputs_json))
    return states


def _branches(plan: Plan, identifiers: Sequence[str]) -> list[int]:
    """The number of a branch for each state, counted from 0.

    It is the first branch with no node that leads to the state's, or to which it leads.
    """
    branches: list[set[str]] = []
    numbers = []
    for identifier in identifiers:
        related = {
            identifier,
            *plan.shape.ancestors[identifier],
            *plan.shape.descendants[identifier],
        }
        free = (at for at, nodes in enumerate(branches) if not nodes & related)
        number = next(free, len(branches))
        if number == len(branches):
            branches.append(set())
        branches[number].add(identifier)
        numbers.append(number)
    return numbers


def _check_branches(run: Run, plan: Plan, states: int) -> None:
    """Refuse a run that was started at its roots, if its graph has joins.

    It has no branches, so its joins would take the new states for their own.
    """
    if not states or not plan.shape.region:
        return
    roots = State.objects.filter(run=run, parent=None)
    if roots.exclude(path__startswith=f"{paths.BRANCH}:").exists():
        raise errors.Conflict(
            "The run was started as a whole, and its graph unites branches; "
            "make the states in a run of their own."
        )


def _dumped(identifier: str, inputs: Json) -> str:
    try:
        return payloads.dump(inputs)
    except payloads.NotJson as error:
        raise errors.TooLarge(f"The inputs of {identifier} can't be stored: {error}.") from None
