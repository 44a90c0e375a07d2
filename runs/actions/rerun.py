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
class Again:
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


def rerun(run: Run, caller: Caller = SYSTEM, again: Again | None = None) -> Run:
    """A new run of the same graph with the same inputs, or as `again` says.

    Raises Conflict for a run whose version isn't here, that has no inputs to change or of which no part can be run again, and what starting raises.
    """
    again = again or Again()
    caller.require("rerun", run.namespace_id)
    if again.partly and (again.newest or again.delay):
        raise errors.Malformed("A part of a run is run again at once, on the version that the run had.")
    with transaction.atomic():
        locked = Run.objects.select_for_update(of=("self",)).select_related("namespace", "graph__current", "graph__namespace", "version", "dataset")
        original = locked.filter(pk=run.pk).first()
        if original is None:
            raise errors.NotFound(f"There is no run {run.run_id!r}.")
        if again.asked and (made := Run.objects.filter(parent=original, origin__asked=again.asked).first()):
            return made
        number, run_id = _next(original)
        base = _ENDING.sub("", original.name or original.run_id)
        options = replace(_options(original), run_id=run_id, name=f"{base[:480]} (Rerun #{number})", delay=again.delay)
        made, how = _partly(original, options, caller, again) if again.partly else _whole(original, options, caller, again)
        Run.objects.filter(pk=original.pk).update(rerun_count=number, reruns_left=0)  # who reruns it by hand has seen to it
        LogLine.objects.create(run=made, message=f"Rerun #{number} of {original.run_id}, {how}, asked for by {caller.label}"[:2000])
        Run.objects.filter(pk=made.pk).update(
            log_count=F("log_count") + 1, origin={"how": how, **({"asked": again.asked} if again.asked else {})}, revision=F("revision") + 1
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
        if not taken and not Tombstone.objects.of(run_id).filter(namespace=run.namespace_id).exists():
            return number, run_id


def _options(run: Run) -> RunOptions:
    return RunOptions(
        inputs=run.initial_data, store=run.store, labels=run.labels, metadata=run.metadata, workspace=run.workspace, session_id=run.session_id,
        purpose=run.purpose, sop=run.sop, max_steps=run.max_steps,
    )  # fmt: skip


def _whole(run: Run, options: RunOptions, caller: Caller, again: Again) -> tuple[Run, str]:
    """The run from its beginning, and how that is said."""
    how = ["from the start"]
    if again.inputs is not None:
        options = replace(options, inputs=dict(again.inputs))
        how += ["with other inputs"] if options.inputs != run.initial_data else []
    if run.graph is None:
        return start_outside(run.namespace, options, caller, Run.Trigger.RERUN, run), ", ".join(how)
    version: GraphVersion | None = run.graph.current if again.newest else run.version
    if version is None:
        raise errors.Conflict("The run was not made by this system; its graph has no version to run again.")
    how += [f"on version {version.number} instead of {run.version.number}"] if run.version and version.pk != run.version_id else []
    if made := _made_states(run):
        if again.inputs is not None:
            raise errors.Conflict("The run was made of single states, which have inputs of their own; the run has none to change.")
        if again.delay:
            raise errors.Conflict("The run was made of single states; it can only be run again at once.")
        return _create(run, version, options, made, caller), ", ".join(how)
    return start_run(run.graph, options, run.dataset, caller, Run.Trigger.RERUN, version, run), ", ".join(how)


def _partly(run: Run, options: RunOptions, caller: Caller, again: Again) -> tuple[Run, str]:
    """A part of the run, and how that is said."""
    found = partial_rerun.parts(run, again.node)
    if again.inputs is not None and (len(found.again) != 1 or not again.node):
        raise errors.Conflict(f"Other inputs are for a single state of one node; here {len(found.again):,} states are run again.")
    made = start_empty(run, options, caller)
    partial_rerun.take_over(run, made, found, again.inputs)
    nodes = ", ".join(dict.fromkeys(state.identifier for state in found.again))
    changed = " with other inputs" if again.inputs is not None else ""
    return made, f"from {nodes[:200]}{changed}; {len(found.reused):,} states are taken over"


def _made_states(run: Run) -> list[list[tuple[str, object]]]:
    """The states that the run was made of, branch by branch, if it wasn't started at its roots (`runs.engine.create_states`)."""
    first = State.objects.filter(run=run, parent=None, joined=False, path__startswith=f"{paths.BRANCH}:", retry_count=0, fanout_id="").order_by("pk")
    branches: dict[str, dict[str, object]] = {}
    for state in first:
        if state.inputs is not None:
            branches.setdefault(state.path.split(".")[0], {}).setdefault(state.identifier, state.inputs)
    return [list(branch.items()) for branch in branches.values()]


def _create(run: Run, version: GraphVersion, options: RunOptions, made: list[list[tuple[str, object]]], caller: Caller) -> Run:
    assert run.graph is not None
    run.graph.current, run.graph.current_id = version, version.pk  # for this call only: nothing is saved
    for branch in made:
        new, _ = create_states.create_states(run.graph, options.run_id, branch, caller, "rerun")
    values = {
        "store": dict(options.store),
        "initial_data": dict(options.inputs),
        "session_id": options.session_id,
        "purpose": options.purpose,
        "sop": options.sop,
        "max_steps": options.max_steps,
        "name": options.name,
        "parent": run,
        "root": run.root or run.pk,
        "trigger": Run.Trigger.RERUN,
        "labels": options.labels,
        "metadata": options.metadata,
        "workspace": options.workspace,
    }
    Run.objects.filter(pk=new.pk).update(**values)
    new.refresh_from_db()
    return new


def rerun_failures() -> int:
    """Rerun what failed of graphs whose settings ask for it (`rerun_on_failure`), as often as they allow; how many runs that made."""
    due = Run.objects.filter(status__in=(statuses.FAILED, statuses.PARTIAL), reruns_left__gt=0, archived_at=None).order_by("pk")
    return sum(_automatic(run) for run in due.select_related("version", "namespace", "graph__namespace")[:BATCH])


def _automatic(run: Run) -> bool:
    """One automatic rerun; however many supervisors look, the count is taken once."""
    settings = (run.version.plan.rerun_on_failure if run.version else None) or {}
    with transaction.atomic():
        if not Run.objects.filter(pk=run.pk, reruns_left=run.reruns_left, status=run.status).update(reruns_left=0):
            return False
        try:
            with transaction.atomic():
                whole = settings.get("from") == "start"
                made = rerun(run, SYSTEM, Again(delay=settings.get("delay", 0)) if whole else Again(failed=True))
        except errors.StateManagerError as error:
            LogLine.objects.create(run=run, level="warning", message=f"It could not be rerun automatically: {error}"[:2000])
            Run.objects.filter(pk=run.pk).update(log_count=F("log_count") + 1)
            return False
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # a run that breaks must not hold up those behind it
            log.exception("run %s could not be rerun automatically", run.run_id)
            return False
        Run.objects.filter(pk=made.pk).update(reruns_left=run.reruns_left - 1)
    return True
