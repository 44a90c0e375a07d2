"""Running a part of a run again, in a new run that takes over what the other states of the old one did.

Chosen are the states that failed or were cancelled, or those of one node and what failed elsewhere. They get a new state each; what was below them is
left out and comes by itself; everything else that succeeded is copied with its outputs and files, and marked with the state that it comes from.
The version is that of the old run, because paths are written in the numbers of its nodes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.files.storage import default_storage
from django.utils import timezone

from graphs.definition import errors, payloads, uuids
from graphs.definition.plan import Plan
from runs.core import paths, statuses
from runs.core.node_counts import DONE, KNOWN
from runs.engine import counters, retry, store, wakeup
from runs.engine.claimed_states import FactsCache
from runs.engine.node_context import run_folder
from runs.engine.types import NewState, RunFacts
from runs.models import Artifact, Run, State

MOST = 50_000
TAKEN = (
    "identifier",
    "node",
    "path",
    "status",
    "retry_count",
    "joined",
    "watched",
    "worker_namespace_id",
    "inputs",
    "outputs",
    "chosen",
    "emitted",
    "attempt",
)


@dataclass(frozen=True)
class Parts:
    """The states of the old run that are done anew, and those that are taken over."""

    again: list[State]
    reused: list[State]


def parts(run: Run, node: str = "") -> Parts:
    """What a rerun from this node, or from what failed, would do. Raises Conflict when there is nothing to do, or while the run is active."""
    if not run.ended:
        raise errors.Conflict(
            f"The run is {run.status}; a part of it can be run again once it has ended.",
            allowed=["cancel"],
        )
    if run.version is None:
        raise errors.Conflict(
            "The run was not made by this system; it can only be run again as a whole."
        )
    plan = run.version.plan
    if node and node not in plan.nodes:
        raise errors.NotFound(f"The graph has no node {node[:100]!r}.")
    states = list(
        State.objects.filter(run=run)
        .exclude(status=statuses.RETRY_CREATED)
        .order_by("pk")[: MOST + 1]
    )
    if len(states) > MOST:
        raise errors.Conflict(f"The run has more than {MOST:,} states; run it again as a whole.")
    chosen = [
        state
        for state in states
        if state.status not in (statuses.SUCCESS, statuses.PRUNED) or state.identifier == node
    ]
    if not chosen:
        raise errors.Conflict(
            "Nothing of the run failed; choose a node, or run it again as a whole."
        )
    if node and all(state.identifier != node for state in chosen):
        raise errors.Conflict(
            f"The node {node!r} was not reached in this run; rerun what failed before it."
        )
    below = _Below(plan, chosen)
    again = {
        (state.identifier, _step(plan, state)): state
        for state in reversed(chosen)
        if not below.has(state)
    }
    left_out = {state.pk for state in chosen}
    reused = [state for state in states if state.pk not in left_out and not below.has(state)]
    return Parts(list(reversed(again.values())), reused)


def _step(plan: Plan, state: State) -> str:
    return paths.step(state.path, plan.nodes[state.identifier].index)


class _Below:
    """Whether a state stands below one of these, so that what it was made of changes."""

    def __init__(self, plan: Plan, chosen: Iterable[State]) -> None:
        self._plan = plan
        self._places: dict[str, dict[frozenset[str], set[str]]] = {}
        for state in chosen:
            path = _step(plan, state)
            nodes = frozenset(part.partition(":")[0] for part in path.split(".") if part)
            self._places.setdefault(state.identifier, {}).setdefault(nodes, set()).update(
                paths.prefixes(path)
            )

    def has(self, state: State) -> bool:
        above = self._plan.shape.ancestors[state.identifier]
        return any(
            paths.trim(state.path, nodes) in places
            for identifier, groups in self._places.items()
            if identifier in above
            for nodes, places in groups.items()
        )


def take_over(old: Run, new: Run, found: Parts, inputs: Mapping[str, Any] | None = None) -> None:
    """Fill a new, empty run: the taken states with their files, the new ones, and its counters. To be called in the transaction that made it."""
    ids = {state.pk: uuids.uuid7() for state in found.reused}
    folders = (f"{run_folder(old.pk)}/", f"{run_folder(new.pk)}/")
    now = timezone.now()
    State.objects.bulk_create(
        (
            State(id=uuids.dashed(ids[state.pk]), run=new, parent=_new_id(ids, state.parent), reused=state.pk, created_at=now, finished_at=now, due_at=None,
                  **{name: _moved(getattr(state, name), folders) for name in TAKEN})
            for state in found.reused
        ),
        batch_size=500,
    )  # fmt: skip
    _copy_files(old, new, ids, folders)
    facts = RunFacts(
        new.pk,
        new.run_id,
        new.namespace_id,
        new.namespace.name,
        new.version_id or 0,
        new.dataset_id,
        new.initial_data,
        new.store,
    )
    State.objects.fill_inputs(found.again)
    repeats = [_repeat_of(facts, state, ids, folders, inputs) for state in found.again]
    run_counters = _counters(new, facts.plan, found.reused, repeats)
    store.insert_states_now(repeats)  # before the joins, some of which are among them
    store.insert_states_now(retry.missed_joins(new, repeats, FactsCache(), run_counters))
    run_counters.update_progress()
    counters.store([run_counters])
    wakeup.hint()


def _new_id(ids: Mapping[Any, str], old: Any) -> str | None:
    return uuids.dashed(ids[old]) if old in ids else None


def _repeat_of(
    facts: RunFacts,
    state: State,
    ids: Mapping[Any, str],
    folders: tuple[str, str],
    inputs: Mapping[str, Any] | None,
) -> NewState:
    value = _moved(state.inputs if inputs is None else dict(inputs), folders)
    parent = ids.get(state.parent) if state.parent else None
    repeat = NewState(
        uuids.uuid7(),
        facts,
        state.identifier,
        _step(facts.plan, state),
        parent,
        value,
        payloads.dump(value),
        joined=state.joined,
    )
    if (
        inputs is None
        and state.joined
        and state.status == statuses.NEXT_CREATED_ERROR
        and not state.attempt
    ):
        retry.render_again(repeat)  # a join whose inputs couldn't be made has none to repeat
    return repeat


def _moved(value: Any, folders: tuple[str, str]) -> Any:
    """The value with the names of files in the old run's folder as they are in the new one's."""
    if isinstance(value, str):
        return (
            folders[1] + value.removeprefix(folders[0]) if value.startswith(folders[0]) else value
        )
    if isinstance(value, dict):
        return {key: _moved(each, folders) for key, each in value.items()}
    return [_moved(each, folders) for each in value] if isinstance(value, list) else value


def _copy_files(old: Run, new: Run, ids: Mapping[Any, str], folders: tuple[str, str]) -> None:
    """The files of the taken states, under the same names in the new run's folder, so that the old run may be deleted."""
    for file in Artifact.objects.filter(run=old, state__in=ids):
        target = _moved(file.file, folders)
        if default_storage.exists(file.file):
            with default_storage.open(file.file, "rb") as content:
                target = default_storage.save(target, content)
        kept = {
            name: getattr(file, name) for name in ("identifier", "kind", "name", "size", "checksum")
        }
        Artifact.objects.create(run=new, state=uuids.dashed(ids[file.state]), file=target, **kept)


def _counters(
    new: Run, plan: Plan, reused: Iterable[State], repeats: Iterable[NewState]
) -> counters.RunCounters:
    run_counters = counters.lock([new.pk], {new.pk: plan})[new.pk]
    for state in reused:
        run_counters.success_count += 1
        run_counters.emitted += state.emitted
        run_counters.count(state.identifier, KNOWN)
        run_counters.count(state.identifier, DONE)
    for repeat in repeats:
        run_counters.appear(repeat.identifier)
    run_counters.current_step = run_counters.success_count
    return run_counters
