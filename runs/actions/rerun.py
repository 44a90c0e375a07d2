"""Rerunning a run: a new run of the same configuration, whose parent is the old run.

Reruns of a run are numbered. The number is taken under the lock of the original, so that two
requests get different numbers. A number is never used again, and one whose run id is taken already
is skipped.
"""

import logging
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from django.db import transaction
from django.db.models import F

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors, merge
from graphs.definition.plan import Plan
from graphs.definition.types import Json, JsonObject
from graphs.models import GraphVersion
from runs.actions import partial_rerun, sent_inputs
from runs.actions.partial_rerun import CopiedFiles
from runs.core import db_errors, paths, statuses
from runs.engine import concurrency, create_states, deadlines, run_inputs
from runs.engine.new_run import RunOptions, TimeLimits
from runs.engine.start import start_empty, start_outside, start_run
from runs.models import AuditEntry, LogLine, Run, State, Tombstone
from runs.queries.drivers import driver_of, rerun_for

log = logging.getLogger(__name__)
BATCH = 50
MAX_MESSAGE_LENGTH = 2000
_NUMBER_AT_END = re.compile(r"\s*\(Rerun #\d+\)$")

Branch = list[tuple[str, Json]]  # the states (node, inputs) that were created together


@dataclass(frozen=True)
class RerunOptions:
    """How a run is rerun; by default as it was, from its start.

    `newest`: on the newest version of the graph instead of the run's own.
    `inputs`: these instead of the run's; with `node`, instead of those of the node's single state.
    `failed`: only what failed. `node`: only from this node on. The rest is taken over.
    `delay`: seconds until the run starts.
    `schedule`: the due time of a recurring rerun for which it starts, for the records.
    `idempotency_key`: a repeated request with the same key gets the rerun that the first one made.
    """

    newest: bool = False
    inputs: Mapping[str, Json] | None = None
    failed: bool = False
    node: str = ""
    delay: float = 0.0
    schedule: JsonObject | None = None
    idempotency_key: str = ""

    @property
    def partly(self) -> bool:
        return self.failed or bool(self.node)


def files_for(
    run: Run, caller: Caller, options: RerunOptions
) -> AbstractContextManager[CopiedFiles]:
    """The files that the rerun takes over, copied. Enter it outside of any transaction."""
    run = rerun_for(run)
    if options.partly and caller.can("rerun", run.namespace_id):
        return partial_rerun.copied_files(run, options.node)
    return nullcontext(CopiedFiles())


def rerun(
    run: Run,
    caller: Caller = SYSTEM,
    options: RerunOptions | None = None,
    files: CopiedFiles | None = None,
) -> Run:
    """Start a rerun of the run and return it.

    A caller with a transaction of its own copies the `files` before it (`files_for`).

    A thread that a node of ours runs is rerun by rerunning the run of the node, which makes a new
    thread. A run that an outside program drives waits in the queue for that program.

    Raises Forbidden without the right, Malformed for options that exclude each other, NotFound if
    the run is gone, Conflict if the run can't be rerun this way, and what starting a run raises.
    """
    options = options or RerunOptions()
    caller.require("rerun", run.namespace_id)
    run = driver_of(run) or run
    if options.partly and (options.newest or options.delay):
        raise errors.Malformed(
            "A partial rerun starts at once, on the version that the run had. "
            "Rerun the whole run to choose another version or a later time."
        )
    earlier = _earlier(run, options)
    if earlier is not None:
        return earlier
    if files is not None:
        return _rerun(run, caller, options, files)
    with files_for(run, caller, options) as files:
        return _rerun(run, caller, options, files)


def _earlier(run: Run, options: RerunOptions) -> Run | None:
    """The rerun that an earlier request with the same idempotency key made."""
    if not options.idempotency_key:
        return None
    reruns = Run.objects.filter(parent=run, origin__idempotency_key=options.idempotency_key)
    return reruns.first()


def _rerun(run: Run, caller: Caller, options: RerunOptions, files: CopiedFiles) -> Run:
    with transaction.atomic():
        original = _locked(run)
        earlier = _earlier(original, options)
        if earlier is not None:
            return earlier
        number, start = _numbered(original, options)
        if options.partly:
            new_run, how = _rerun_part(original, start, caller, options, files)
        else:
            new_run, how = _rerun_whole(original, start, caller, options)
        _note(original, new_run, number, how, caller, options)
    new_run.refresh_from_db()
    return new_run


def _locked(run: Run) -> Run:
    runs = Run.objects.select_for_update(of=("self",), no_key=True).select_related(
        "namespace", "graph__current", "graph__namespace", "version", "dataset"
    )
    original = runs.filter(pk=run.pk).first()
    if original is None:
        raise errors.NotFound(f"There is no run {run.run_id!r}.")
    return original


def _note(
    original: Run, new_run: Run, number: int, how: str, caller: Caller, options: RerunOptions
) -> None:
    """Record the rerun in the original, in the new run and in the audit trail."""
    if options.schedule:
        how = f"{how}, on the schedule {options.schedule['trigger']}"
    # Somebody has dealt with the run, so it is not rerun automatically as well.
    Run.objects.filter(pk=original.pk).update(rerun_count=number, reruns_left=0)
    message = f"Rerun #{number} of {original.run_id}, {how}, requested by {caller.label}"
    LogLine.objects.create(run=new_run, message=message[:MAX_MESSAGE_LENGTH])
    origin: JsonObject = {"how": how, **(options.schedule or {})}
    if options.idempotency_key:
        origin["idempotency_key"] = options.idempotency_key
    Run.objects.filter(pk=new_run.pk).update(
        log_count=F("log_count") + 1, origin=origin, revision=F("revision") + 1
    )
    AuditEntry.objects.record(caller, "rerun", original, f"{new_run.run_id}: {how}")


def _numbered(original: Run, options: RerunOptions) -> tuple[int, RunOptions]:
    """The number of the rerun, and the options with which it starts."""
    number, run_id = _free_number(original)
    base_name = _NUMBER_AT_END.sub("", original.name or original.run_id)
    start = RunOptions(
        run_id=run_id,
        name=f"{base_name[:480]} (Rerun #{number})",
        inputs=original.initial_data,
        store=original.store,
        labels=original.labels,
        metadata=original.metadata,
        workspace=original.workspace,
        session_id=original.session_id,
        purpose=original.purpose,
        sop=original.sop,
        max_steps=original.max_steps,
        priority=original.priority,
        delay=options.delay,
    )
    start.timeout, start.start_by = deadlines.limits_of(original)
    return number, start


def _free_number(original: Run) -> tuple[int, str]:
    """The next number whose run id neither a run nor a tombstone has."""
    namespace = original.namespace_id
    number = original.rerun_count
    while True:
        number += 1
        run_id = f"{original.run_id[:180]}_rerun_{number}"
        exists = Run.objects.filter(namespace=namespace, run_id=run_id).exists()
        if not exists and not Tombstone.objects.of(run_id).filter(namespace=namespace).exists():
            return number, run_id


# --- the whole run --------------------------------------------------------------------------------


def _rerun_whole(
    original: Run, start: RunOptions, caller: Caller, options: RerunOptions
) -> tuple[Run, str]:
    """The rerun from the start, and a description of it."""
    description = ["from the start"]
    if options.inputs is not None:
        former = original.initial_data
        inputs = sent_inputs.restored(options.inputs, former, caller, original.namespace_id)
        start = replace(start, inputs=inputs)
        if not merge.same(inputs, original.initial_data):
            description.append("with other inputs")
    if original.graph is None:
        new_run = start_outside(original.namespace, start, caller, Run.Trigger.RERUN, original)
        return new_run, ", ".join(description)
    version = _version_for(original, options)
    if original.version and version.pk != original.version_id:
        description.append(f"on version {version.number} instead of {original.version.number}")
    branches = _created_branches(original)
    graph, dataset = original.graph, original.dataset
    with run_inputs.hidden(not caller.can("payloads", original.namespace_id)):
        if branches:
            new_run = _create_branches(original, version, start, branches, caller)
        else:
            trigger = Run.Trigger.RERUN
            new_run = start_run(graph, start, dataset, caller, trigger, version, original)
    return new_run, ", ".join(description)


def _version_for(original: Run, options: RerunOptions) -> GraphVersion:
    assert original.graph is not None
    version = original.graph.current if options.newest else original.version
    if version is None:
        raise errors.Conflict("The run has no version of its graph that could be run again.")
    return version


# --- runs that were created state by state --------------------------------------------------------


def _created_branches(run: Run) -> list[Branch]:
    """The states that `runs.engine.create_states` created, branch by branch.

    Empty if the run was started at the roots of its graph.
    """
    created = State.objects.filter(
        run=run,
        parent=None,
        joined=False,
        path__startswith=f"{paths.BRANCH}:",
        retry_count=0,
        fanout_id="",
    )
    branches: dict[str, dict[str, Json]] = {}
    for state in created.order_by("pk"):
        if state.inputs is not None:
            branch = branches.setdefault(state.path.split(".")[0], {})
            branch.setdefault(state.identifier, state.inputs)
    return [list(branch.items()) for branch in branches.values()]


def _changed_inputs(original: Run, start: RunOptions) -> JsonObject:
    """The inputs of the rerun that the original didn't have, or had with another value."""
    former = original.initial_data
    return {
        name: value
        for name, value in start.inputs.items()
        if name not in former or not merge.same(former[name], value)
    }


def _with_inputs(branch: Branch, plan: Plan, changed: JsonObject) -> Branch:
    return [
        (identifier, run_inputs.replaced(plan.nodes[identifier].kind, inputs, changed))
        if changed and identifier in plan.nodes
        else (identifier, inputs)
        for identifier, inputs in branch
    ]


def _create_branches(
    original: Run,
    version: GraphVersion,
    start: RunOptions,
    branches: list[Branch],
    caller: Caller,
) -> Run:
    """Create the same states in a new run, on this version of the graph.

    Inputs that the rerun changes replace those of its states, as they do those of root nodes.
    """
    graph = original.graph
    assert graph is not None
    # `create_states` uses the graph's current version. The graph object is not saved.
    graph.current = version
    changed = _changed_inputs(original, start)
    inputs = start.inputs or None  # for the first branch, which creates the run
    limits = TimeLimits(start.timeout, start.start_by)
    for branch in branches:
        states = _with_inputs(branch, version.plan, changed)
        new_run, _ = create_states.create_states(
            graph, start.run_id, states, caller, "rerun", inputs, start.delay, limits, False
        )
        inputs = None
    values: JsonObject = {
        "store": dict(start.store),
        "session_id": start.session_id,
        "purpose": start.purpose,
        "sop": start.sop,
        "max_steps": start.max_steps,
        "name": start.name,
        "parent": original,
        "root": original.root or original.pk,
        "trigger": Run.Trigger.RERUN,
        "labels": start.labels,
        "metadata": start.metadata,
        "workspace": start.workspace,
    }
    Run.objects.filter(pk=new_run.pk).update(**values)
    new_run.refresh_from_db()
    concurrency.take_for(new_run, caller, start.delay)
    return new_run


# --- a part of the run ----------------------------------------------------------------------------


def _rerun_part(
    original: Run, start: RunOptions, caller: Caller, options: RerunOptions, files: CopiedFiles
) -> tuple[Run, str]:
    """The partial rerun, and a description of it."""
    parts = partial_rerun.parts(original, options.node)
    if options.inputs is not None and (len(parts.repeated) != 1 or not options.node):
        raise errors.Conflict(
            "Other inputs can only be given for one node with a single state; "
            f"this rerun would repeat {len(parts.repeated):,} states."
        )
    new_run = start_empty(original, start, caller, files.run_pk)
    inputs = options.inputs
    if inputs is not None:
        inputs = sent_inputs.restored(inputs, {}, caller, original.namespace_id)
    partial_rerun.take_over(original, new_run, parts, files, inputs)
    concurrency.take_for(new_run, caller)
    nodes = ", ".join(dict.fromkeys(state.identifier for state in parts.repeated))
    changed = " with other inputs" if options.inputs is not None else ""
    taken_over = f"{len(parts.taken_over):,} states are taken over"
    return new_run, f"from {nodes[:200]}{changed}; {taken_over}"


# --- automatic reruns -----------------------------------------------------------------------------


def rerun_failures() -> int:
    """Rerun failed runs of graphs that ask for it (`rerun_on_failure`). Returns their number."""
    failed = Run.objects.filter(
        status__in=statuses.UNSUCCESSFUL, reruns_left__gt=0, archived_at=None
    ).select_related("version", "namespace", "graph__namespace")
    return sum(_rerun_automatically(run) for run in failed.order_by("pk")[:BATCH])


def _rerun_automatically(run: Run) -> bool:
    """Rerun the run once, however many supervisors try it. Returns whether this call did."""
    options = _automatic_options(run)
    with files_for(run, SYSTEM, options) as files, transaction.atomic():
        # `reruns_left` is the guard: of several supervisors, one sets it to 0.
        unchanged = Run.objects.filter(pk=run.pk, reruns_left=run.reruns_left, status=run.status)
        unlocked = unchanged.select_for_update(of=("self",), skip_locked=True, no_key=True)
        if not list(unlocked.values_list("pk")) or not unchanged.update(reruns_left=0):
            return False
        try:
            with transaction.atomic():
                new_run = rerun(run, SYSTEM, options, files)
        except errors.StateManagerError as error:
            _warn(run, f"The run could not be rerun automatically: {error}")
            return False
        except Exception as error:
            if db_errors.passes(error):
                raise
            # A defect in one run must not keep the runs behind it from being rerun.
            log.exception("run %s could not be rerun automatically", run.run_id)
            return False
        Run.objects.filter(pk=new_run.pk).update(reruns_left=run.reruns_left - 1)
    return True


def _automatic_options(run: Run) -> RerunOptions:
    settings = (run.version.plan.rerun_on_failure if run.version else None) or {}
    if settings.get("from") == "start":
        return RerunOptions(delay=settings.get("delay", 0))
    return RerunOptions(failed=True)


def _warn(run: Run, message: str) -> None:
    LogLine.objects.create(run=run, level="warning", message=message[:MAX_MESSAGE_LENGTH])
    Run.objects.filter(pk=run.pk).update(log_count=F("log_count") + 1)
