"""Running a run again with what it was given (seed 002): a new run, whose parent is the old one.

The number of a rerun is taken under the lock of its original, so that two clicks make two runs with different numbers; a number is never used again,
and a run id that is taken already is skipped.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors
from graphs.models import GraphVersion
from runs.actions import partial_rerun
from runs.core import paths, statuses
from runs.engine import create_states
from runs.engine.start import RunOptions, start_empty, start_outside, start_run
from runs.models import AuditEntry, LogLine, Run, State, Tombstone

_ENDING = re.compile(r"\s*\(Rerun #\d+\)$")
BATCH = 50
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RerunOptions:
    """How a run is to be run again.

    `newest`: on the graph's newest version instead of the one that it had. `inputs`: instead of those that it had; with `node`, those of that node's
    one state. `failed`: only what failed, `node`: from this node on; the rest is taken over. `delay`: seconds until it begins. `asked`:
    the same again finds the rerun that was made, so that a double click makes one.
    """

    newest: bool = False
    inputs: Mapping[str, Any] | None = None
    failed: bool = False
    node: str = ""
    delay: float = 0.0
    asked: str = ""

    @property
    def partly(self) -> bool:
        return self.failed or bool(self.node)


def rerun(run: Run, caller: Caller = SYSTEM, options: RerunOptions | None = None) -> Run:
    """A new run of the same graph with the same inputs, or as `options` say.

    Raises Conflict for a run whose version isn't here, that has no inputs to change or of which no part can be run again, and what starting raises.
    """
    options = options or RerunOptions()
    caller.require("rerun", run.namespace_id)
    if options.partly and (options.newest or options.delay):
        raise errors.Malformed(
            "A part of a run is run again at once, on the version that the run had."
        )
    with transaction.atomic():
        locked = Run.objects.select_for_update(of=("self",)).select_related(
            "namespace", "graph__current", "graph__namespace", "version", "dataset"
        )
        original = locked.filter(pk=run.pk).first()
        if original is None:
            raise errors.NotFound(f"There is no run {run.run_id!r}.")
        if options.asked and (
            made := Run.objects.filter(parent=original, origin__asked=options.asked).first()
        ):
            return made
        number, run_id = _next(original)
        base = _ENDING.sub("", original.name or original.run_id)
        start = replace(
            _start_options(original),
            run_id=run_id,
            name=f"{base[:480]} (Rerun #{number})",
            delay=options.delay,
        )
        made, how = (
            _partly(original, start, caller, options)
            if options.partly
            else _whole(original, start, caller, options)
        )
        Run.objects.filter(pk=original.pk).update(
            rerun_count=number, reruns_left=0
        )  # who reruns it by hand has seen to it
        LogLine.objects.create(
            run=made,
            message=f"Rerun #{number} of {original.run_id}, {how}, asked for by {caller.label}"[
                :2000
            ],
        )
        Run.objects.filter(pk=made.pk).update(
            log_count=F("log_count") + 1,
            origin={"how": how, **({"asked": options.asked} if options.asked else {})},
            revision=F("revision") + 1,
        )
        AuditEntry.objects.record(caller, "rerun", original, f"{run_id}: {how}")
    made.refresh_from_db()
    return made


def _next(run: Run) -> tuple[int, str]:
    number = run.rerun_count
    while True:
        number += 1
        run_id = f"{run.run_id[:180]}_rerun_{number}"
        taken = Run.objects.filter(namespace=run.namespace_id, run_id=run_id).exists()
        if (
            not taken
            and not Tombstone.objects.of(run_id).filter(namespace=run.namespace_id).exists()
        ):
            return number, run_id


def _start_options(run: Run) -> RunOptions:
    return RunOptions(
        inputs=run.initial_data, store=run.store, labels=run.labels, metadata=run.metadata, workspace=run.workspace, session_id=run.session_id,
        purpose=run.purpose, sop=run.sop, max_steps=run.max_steps,
    )  # fmt: skip


def _whole(run: Run, start: RunOptions, caller: Caller, options: RerunOptions) -> tuple[Run, str]:
    """The run from its beginning, and how that is said."""
    how = ["from the start"]
    if options.inputs is not None:
        start = replace(start, inputs=dict(options.inputs))
        how += ["with other inputs"] if options.inputs != run.initial_data else []
    if run.graph is None:
        return start_outside(run.namespace, start, caller, Run.Trigger.RERUN, run), ", ".join(how)
    version: GraphVersion | None = run.graph.current if options.newest else run.version
    if version is None:
        raise errors.Conflict(
            "The run was not made by this system; its graph has no version to run again."
        )
    how += (
        [f"on version {version.number} instead of {run.version.number}"]
        if run.version and version.pk != run.version_id
        else []
    )
    if made := _made_states(run):
        if options.inputs is not None:
            raise errors.Conflict(
                "The run was made of single states, which have inputs of their own; the run has none to change."
            )
        if options.delay:
            raise errors.Conflict(
                "The run was made of single states; it can only be run again at once."
            )
        return _create(run, version, start, made, caller), ", ".join(how)
    return start_run(
        run.graph, start, run.dataset, caller, Run.Trigger.RERUN, version, run
    ), ", ".join(how)


def _partly(run: Run, start: RunOptions, caller: Caller, options: RerunOptions) -> tuple[Run, str]:
    """A part of the run, and how that is said."""
    found = partial_rerun.parts(run, options.node)
    if options.inputs is not None and (len(found.again) != 1 or not options.node):
        raise errors.Conflict(
            f"Other inputs are for a single state of one node; here {len(found.again):,} states are run again."
        )
    made = start_empty(run, start, caller)
    partial_rerun.take_over(run, made, found, options.inputs)
    nodes = ", ".join(dict.fromkeys(state.identifier for state in found.again))
    changed = " with other inputs" if options.inputs is not None else ""
    return made, f"from {nodes[:200]}{changed}; {len(found.reused):,} states are taken over"


def _made_states(run: Run) -> list[list[tuple[str, object]]]:
    """The states that the run was made of, branch by branch, if it wasn't started at its roots (`runs.engine.create_states`)."""
    first = State.objects.filter(
        run=run,
        parent=None,
        joined=False,
        path__startswith=f"{paths.BRANCH}:",
        retry_count=0,
        fanout_id="",
    ).order_by("pk")
    branches: dict[str, dict[str, object]] = {}
    for state in first:
        if state.inputs is not None:
            branches.setdefault(state.path.split(".")[0], {}).setdefault(
                state.identifier, state.inputs
            )
    return [list(branch.items()) for branch in branches.values()]


def _create(
    run: Run,
    version: GraphVersion,
    start: RunOptions,
    made: list[list[tuple[str, object]]],
    caller: Caller,
) -> Run:
    assert run.graph is not None
    run.graph.current, run.graph.current_id = (
        version,
        version.pk,
    )  # for this call only: nothing is saved
    for branch in made:
        new, _ = create_states.create_states(run.graph, start.run_id, branch, caller, "rerun")
    values = {
        "store": dict(start.store),
        "initial_data": dict(start.inputs),
        "session_id": start.session_id,
        "purpose": start.purpose,
        "sop": start.sop,
        "max_steps": start.max_steps,
        "name": start.name,
        "parent": run,
        "root": run.root or run.pk,
        "trigger": Run.Trigger.RERUN,
        "labels": start.labels,
        "metadata": start.metadata,
        "workspace": start.workspace,
    }
    Run.objects.filter(pk=new.pk).update(**values)
    new.refresh_from_db()
    return new


def rerun_failures() -> int:
    """Rerun what failed of graphs whose settings ask for it (`rerun_on_failure`), as often as they allow; how many runs that made."""
    due = Run.objects.filter(
        status__in=(statuses.FAILED, statuses.PARTIAL), reruns_left__gt=0, archived_at=None
    ).order_by("pk")
    return sum(
        _automatic(run)
        for run in due.select_related("version", "namespace", "graph__namespace")[:BATCH]
    )


def _automatic(run: Run) -> bool:
    """One automatic rerun; however many supervisors look, the count is taken once."""
    settings = (run.version.plan.rerun_on_failure if run.version else None) or {}
    with transaction.atomic():
        if not Run.objects.filter(pk=run.pk, reruns_left=run.reruns_left, status=run.status).update(
            reruns_left=0
        ):
            return False
        try:
            with transaction.atomic():
                whole = settings.get("from") == "start"
                made = rerun(
                    run,
                    SYSTEM,
                    RerunOptions(delay=settings.get("delay", 0))
                    if whole
                    else RerunOptions(failed=True),
                )
        except errors.StateManagerError as error:
            LogLine.objects.create(
                run=run,
                level="warning",
                message=f"It could not be rerun automatically: {error}"[:2000],
            )
            Run.objects.filter(pk=run.pk).update(log_count=F("log_count") + 1)
            return False
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # a run that breaks must not hold up those behind it
            log.exception("run %s could not be rerun automatically", run.run_id)
            return False
        Run.objects.filter(pk=made.pk).update(reruns_left=run.reruns_left - 1)
    return True
