"""Making states at any nodes of a graph under a run id of the caller's (contract section B), instead of starting a graph at its roots.

Each call is a branch of its run, as if the run itself had fanned out: joins and references see the states of one call together, and those of
several calls apart. So are states of one call of which one leads to the other.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import IntegrityError, transaction

from graphs.auth.callers import Caller
from graphs.definition import errors, names, payloads, uuids
from graphs.definition.plan import Plan
from graphs.models import Graph, plan_of
from runs.core import paths, sql, statuses
from runs.engine import counters, store, wakeup
from runs.engine.types import NewState, RunFacts
from runs.models import AuditEntry, LogLine, Run, State, Tombstone

Asked = tuple[str, Any]  # identifier, inputs as they are


def create_states(
    graph: Graph, run_id: str, asked: Sequence[Asked], caller: Caller, right: str = "start"
) -> tuple[Run, list[NewState]]:
    """Make these states, in a new run or one that has not ended. All or none.

    Raises NotFound for an identifier that the graph doesn't have, and Conflict when the run is another graph's or has ended.
    """
    caller.require(right, graph.namespace_id)
    run_id = names.checked("run id", run_id) if run_id else uuids.dashed(uuids.uuid7())
    if graph.current_id is None:
        raise errors.InvalidGraph(f"The graph {graph} has no version to run.")
    _known(plan_of(graph.current_id), asked)
    try:
        with transaction.atomic():
            run, new = Run.objects.get_or_create(
                namespace=graph.namespace, run_id=run_id, defaults=_columns(graph, caller)
            )
            if new:
                Tombstone.objects.refuse(run.namespace_id, run_id)
                AuditEntry.objects.record(caller, "start", run)
            if run.graph_id != graph.pk:
                raise errors.Conflict(f"The run id {run_id!r} belongs to a run of another graph.")
            return run, _add(run, asked)
    except IntegrityError:  # the run was deleted meanwhile
        raise errors.Conflict(f"The run {run_id!r} was deleted at this moment.") from None


def _columns(graph: Graph, caller: Caller) -> dict[str, Any]:
    return {
        "graph": graph,
        "version_id": graph.current_id,
        "workspace": graph.namespace.name,
        "user": caller.user,
        "username": caller.label if caller.user else "",
    }


def _known(plan: Plan, asked: Iterable[Asked]) -> None:
    if unknown := sorted({identifier for identifier, _ in asked} - plan.nodes.keys()):
        raise errors.NotFound(
            f"The graph has no node {', '.join(map(repr, unknown))}; no state was made."
        )


def _add(run: Run, asked: Sequence[Asked]) -> list[NewState]:
    if run.version_id is None:
        raise errors.Conflict(
            f"The run {run.run_id!r} was not made by this system; it can't be continued here."
        )
    facts = RunFacts(
        run.pk,
        run.run_id,
        run.namespace_id,
        run.namespace.name,
        run.version_id,
        None,
        run.initial_data,
        run.store,
    )
    _known(facts.plan, asked)
    run_counters = counters.lock([run.pk], {run.pk: facts.plan}).get(run.pk)
    if run_counters is None:
        raise errors.Conflict(f"The run {run.run_id!r} was deleted at this moment.")
    if not run_counters.open:
        raise errors.Conflict(
            f"The run {run.run_id!r} has ended: it is {run_counters.status}.",
            allowed=["retry-failed"],
        )
    branch = State.objects.filter(run=run, parent=None).count()
    _apart(run, facts.plan, branch)
    made: list[NewState] = []
    for (identifier, inputs), number in zip(
        asked, _branches(facts.plan, [identifier for identifier, _ in asked]), strict=True
    ):
        path = paths.below("", paths.BRANCH, branch + number)
        made.append(
            NewState(
                uuids.uuid7(), facts, identifier, path, None, inputs, _dumped(identifier, inputs)
            )
        )
        run_counters.appear(identifier)
    statements = sql.Statements()
    store.insert([store.new_row(state, run_counters.paused) for state in made], statements)
    statements.flush()
    LogLine.objects.create(
        run=run, message=f"{len(made)} states were made: {', '.join(dict(asked))}"[:2000]
    )
    run_counters.log_count += 1
    if run_counters.status != statuses.RUN_QUEUED:
        run_counters.close()
    counters.store([run_counters])
    if any(not facts.plan.nodes[identifier].worker_namespace for identifier, _ in asked):
        wakeup.hint()
    return made


def _branches(plan: Plan, asked: Sequence[str]) -> list[int]:
    """A branch for each state, from 0: the first in which nothing stands that leads to it, or to which it leads."""
    taken: list[set[str]] = []
    numbers = []
    for identifier in asked:
        related = {
            identifier,
            *plan.shape.ancestors[identifier],
            *plan.shape.descendants[identifier],
        }
        number = next((at for at, branch in enumerate(taken) if not branch & related), len(taken))
        if number == len(taken):
            taken.append(set())
        taken[number].add(identifier)
        numbers.append(number)
    return numbers


def _apart(run: Run, plan: Plan, states: int) -> None:
    """A run that was started at its roots has no branches to keep apart; its joins would mistake new states for its own."""
    if (
        states
        and plan.shape.region
        and State.objects.filter(run=run, parent=None)
        .exclude(path__startswith=f"{paths.BRANCH}:")
        .exists()
    ):
        raise errors.Conflict(
            "The run was started as a whole and its graph unites branches; make the states in a run of their own."
        )


def _dumped(identifier: str, inputs: Any) -> str:
    try:
        return payloads.dump(inputs)
    except payloads.NotJson as error:
        raise errors.TooLarge(f"The inputs of {identifier} can't be stored: {error}.") from None
