"""Rerunning a part of a run, in a new run that takes over the rest.

The chosen states are those that failed or were cancelled, or those of one node and what failed
elsewhere. Each gets a new state in the new run. What is below a chosen state is left out, because
the new states will lead to it again. Everything else that succeeded is taken over: it is copied
with its outputs and files, and refers to the state that it was copied from. The new run has the
version of the old one, because paths are written with the indexes of that version's nodes.

The files are copied first, into the folder of a row id that is reserved for the new run: copying
takes as long as the storage does, and a transaction keeps others from writing.
"""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from uuid import UUID

from django.db.models import Sum
from django.utils import timezone

from graphs.definition import errors, payloads, uuids
from graphs.definition.plan import Plan
from graphs.definition.types import Json
from runs.actions import delete
from runs.core import paths, sql, statuses
from runs.core.node_counts import DONE, KNOWN
from runs.engine import counters, retry, store, wakeup
from runs.engine.claimed_states import FactsCache
from runs.engine.node_context import run_folder
from runs.engine.types import NewState, RunFacts
from runs.models import Artifact, Run, State
from statemanager.file_storage import file_storage

log = logging.getLogger(__name__)

MAX_STATES = 50_000
_COPIED_STATE = (
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
_COPIED_FILE = ("identifier", "kind", "name", "size", "checksum")


# --- which states ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """The states of the old run that the new run repeats, and those that it takes over."""

    repeated: list[State]
    taken_over: list[State]


def parts(run: Run, node: str = "") -> Parts:
    """What a rerun from this node, or of what failed, would repeat and take over.

    Raises Conflict if the run is active, has no version or too many states, or if there is nothing
    to repeat; NotFound if the graph has no such node.
    """
    plan = _plan_of(run)
    if node and node not in plan.nodes:
        raise errors.NotFound(f"The graph has no node {node[:100]!r}.")
    all_states = State.objects.filter(run=run).exclude(status=statuses.RETRY_CREATED)
    states = list(all_states.order_by("pk")[: MAX_STATES + 1])
    if len(states) > MAX_STATES:
        raise errors.Conflict(
            f"The run has more than {MAX_STATES:,} states, so it can only be rerun as a whole."
        )
    chosen = [state for state in states if state.identifier == node or not _succeeded(state)]
    if not chosen:
        raise errors.Conflict("Nothing of the run failed. Choose a node, or rerun the whole run.")
    if node and all(state.identifier != node for state in chosen):
        raise errors.Conflict(
            f"The run did not reach the node {node!r}. Rerun what failed before it."
        )
    return _split(plan, states, chosen)


def _plan_of(run: Run) -> Plan:
    if not run.ended:
        raise errors.Conflict(
            f"The run is {run.status}; a part of it can be rerun once it has ended.",
            allowed=["cancel"],
        )
    if run.version is None:
        raise errors.Conflict(
            "An outside program drove this run, so it can only be rerun as a whole."
        )
    return run.version.plan


def _succeeded(state: State) -> bool:
    return state.status in (statuses.SUCCESS, statuses.PRUNED)


def _split(plan: Plan, states: list[State], chosen: list[State]) -> Parts:
    """Repeat each chosen step once, and take over what is not below one of them."""
    below = _Below(plan, chosen)
    repeated: dict[tuple[str, str], State] = {}
    for state in chosen:
        if not below.includes(state):
            # Siblings of a fan-out are states of one step; its first state has the inputs.
            repeated.setdefault((state.identifier, _step_path(plan, state)), state)
    chosen_pks = {state.pk for state in chosen}
    taken_over = [
        state for state in states if state.pk not in chosen_pks and not below.includes(state)
    ]
    return Parts(list(repeated.values()), taken_over)


def _step_path(plan: Plan, state: State) -> str:
    return paths.step(state.path, plan.nodes[state.identifier].index)


class _Below:
    """The places below some states. What runs there may get other inputs than before."""

    def __init__(self, plan: Plan, states: Iterable[State]) -> None:
        self._ancestors = plan.shape.ancestors
        # For each node, the paths of its states, grouped by the fan-outs that they are below.
        self._places: dict[str, dict[frozenset[str], set[str]]] = {}
        for state in states:
            path = _step_path(plan, state)
            fanouts = frozenset(part.partition(":")[0] for part in path.split(".") if part)
            groups = self._places.setdefault(state.identifier, {})
            groups.setdefault(fanouts, set()).update(paths.prefixes(path))

    def includes(self, state: State) -> bool:
        """Whether the state is below one of the states: a later node, in the same branch."""
        for node in self._ancestors[state.identifier] & self._places.keys():
            for fanouts, places in self._places[node].items():
                if paths.trim(state.path, fanouts) in places:
                    return True
        return False


# --- the files ------------------------------------------------------------------------------------


@dataclass
class CopiedFiles:
    """Files that are in the storage before the run that gets them is in the database.

    `run_pk` is the row id of that run, None if there are no files. `names` are the new names by the
    old ones. `error` is what the storage raised, for whoever needs the files.
    """

    run_pk: int | None = None
    names: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None


@contextmanager
def copied_files(old: Run, node: str = "") -> Iterator[CopiedFiles]:
    """Copy the files that a rerun would take over, outside of the transaction that makes it.

    They are removed at the end if there is no such run then. If the process dies before, `verify`
    finds them as a folder without a run.
    """
    files = _copy_files(old, node) if Artifact.objects.filter(run=old).exists() else CopiedFiles()
    try:
        yield files
    finally:
        _remove_unless_used(files)


def _remove_unless_used(files: CopiedFiles) -> None:
    """Remove the files, unless there is a run that has them.

    Without an answer of the database they stay: the run may have been committed. Whatever happens
    here, it must not replace the answer of the rerun.
    """
    try:
        if files.run_pk and not Run.objects.filter(pk=files.run_pk).exists():
            delete.remove_files([files.run_pk])
    except Exception:
        log.exception("copied files of a rerun stay; verify finds them")


def _copy_files(old: Run, node: str) -> CopiedFiles:
    try:
        taken_over = [state.pk for state in parts(old, node).taken_over]
    except errors.StateManagerError:
        return CopiedFiles()  # the rerun, which asks again under the run's lock, refuses
    artifacts = Artifact.objects.filter(run=old, state__in=taken_over)
    stored = list(artifacts.values_list("file", flat=True))
    files = CopiedFiles(sql.reserve_id("statemanager_runs_run") if stored else None)
    try:
        for name in stored:
            files.names[name] = _copied(name, run_folder(old.pk), run_folder(files.run_pk or 0))
    except Exception as error:
        files.error = error
    return files


def _copied(name: str, old_folder: str, new_folder: str) -> str:
    new_name = f"{new_folder}/{name.removeprefix(f'{old_folder}/')}"
    if not file_storage.exists(name):
        return new_name
    with file_storage.open(name, "rb") as content:
        return file_storage.save(new_name, content)


# --- filling the new run --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Copy:
    """How ids and folders of the old run translate to those of the new one."""

    ids: Mapping[UUID, str]
    old_folder: str
    new_folder: str

    def id_of(self, old_id: UUID | None) -> str | None:
        """The new id of a state; None if it isn't taken over."""
        if old_id is None or old_id not in self.ids:
            return None
        return uuids.dashed(self.ids[old_id])

    def moved(self, value: Json) -> Json:
        """The value with the names of files in the old folder replaced by those in the new one."""
        if isinstance(value, str):
            if not value.startswith(self.old_folder):
                return value
            return self.new_folder + value.removeprefix(self.old_folder)
        if isinstance(value, dict):
            return {key: self.moved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.moved(item) for item in value]
        return value


def take_over(
    old: Run,
    new: Run,
    parts: Parts,
    files: CopiedFiles,
    inputs: Mapping[str, Json] | None = None,
) -> None:
    """Fill a new, empty run: states and files that are taken over, repeated states, counters.

    `inputs` replace those of the repeated states. Must be called in the transaction that made the
    run, which has the row id of the files. Raises Conflict if the inputs of a repeated join still
    can't be made, or if the old run was changed since the files were copied.
    """
    copy = _Copy(
        {state.pk: uuids.uuid7() for state in parts.taken_over},
        f"{run_folder(old.pk)}/",
        f"{run_folder(new.pk)}/",
    )
    State.objects.bulk_create(_copied_states(new, parts.taken_over, copy), batch_size=500)
    _insert_artifacts(old, new, copy, files)

    facts = RunFacts.of(new, new.version.checksum if new.version else "")
    State.objects.fill_inputs(parts.repeated)
    repeats = [_repeat_of(facts, state, copy, inputs) for state in parts.repeated]
    run_counters = _counters(new, facts.plan, parts.taken_over, repeats)
    # The repeated states come first: some may be joins, which must not be created a second time.
    store.insert_states_now(repeats)
    store.insert_states_now(retry.missed_joins(new, repeats, FactsCache(), run_counters))
    run_counters.update_progress()
    counters.store([run_counters])
    wakeup.hint()


def _copied_states(new: Run, states: Iterable[State], copy: _Copy) -> Iterable[State]:
    now = timezone.now()
    for state in states:
        values = {name: copy.moved(getattr(state, name)) for name in _COPIED_STATE}
        yield State(
            id=copy.id_of(state.pk),
            run=new,
            parent=copy.id_of(state.parent),
            reused=state.pk,
            created_at=now,
            finished_at=now,
            due_at=None,
            **values,
        )


def _insert_artifacts(old: Run, new: Run, copy: _Copy, files: CopiedFiles) -> None:
    if files.error:
        raise files.error
    artifacts = list(Artifact.objects.filter(run=old, state__in=copy.ids))
    if any(artifact.file not in files.names for artifact in artifacts):
        raise errors.Conflict("The run has changed while its files were copied. Try again.")
    Artifact.objects.bulk_create(
        [
            Artifact(
                run=new,
                state=uuids.dashed(copy.ids[artifact.state]),
                file=files.names[artifact.file],
                **{column: getattr(artifact, column) for column in _COPIED_FILE},
            )
            for artifact in artifacts
        ],
        batch_size=500,
    )


def _repeat_of(
    facts: RunFacts, state: State, copy: _Copy, inputs: Mapping[str, Json] | None
) -> NewState:
    new_inputs = copy.moved(state.inputs if inputs is None else dict(inputs))
    repeat = NewState(
        uuids.uuid7(),
        facts,
        state.identifier,
        _step_path(facts.plan, state),
        copy.ids.get(state.parent) if state.parent else None,
        new_inputs,
        payloads.dump(new_inputs),
        joined=state.joined,
    )
    inputs_failed = state.status == statuses.NEXT_CREATED_ERROR and not state.attempt
    if inputs is None and state.joined and inputs_failed:
        retry.render_again(repeat)  # the state never had inputs that could be repeated
    return repeat


def _counters(
    new: Run, plan: Plan, taken_over: Iterable[State], repeats: Iterable[NewState]
) -> counters.RunCounters:
    run_counters = counters.lock([new.pk], {new.pk: plan})[new.pk]
    for state in taken_over:
        run_counters.success_count += 1
        run_counters.emitted += state.emitted
        run_counters.count(state.identifier, KNOWN)
        run_counters.count(state.identifier, DONE)
    run_counters.stored_bytes += _stored_bytes(new, taken_over)
    for repeat in repeats:
        run_counters.appear(repeat.identifier)
        run_counters.stored_bytes += repeat.size
    run_counters.current_step = run_counters.success_count
    return run_counters


def _stored_bytes(run: Run, taken_over: Iterable[State]) -> int:
    """The bytes of the inputs, outputs and files that the run took over."""
    files = Artifact.objects.filter(run=run).aggregate(size=Sum("size", default=0))["size"]
    values = chain.from_iterable((state.inputs, state.outputs) for state in taken_over)
    return int(files) + sum(
        payloads.size(payloads.dump(value, limit=sys.maxsize))
        for value in values
        if value is not None
    )
