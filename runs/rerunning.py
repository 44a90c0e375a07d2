"""Running a run again with what it was given (seed 002): a new run, whose parent is the old one.

The number of a rerun is taken under the lock of its original, so that two clicks make two runs with different numbers; a number is never used again,
and a run id that is taken already is skipped.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db import transaction

from graphs import errors
from graphs.access import Caller
from graphs.models import GraphVersion
from runs import creating, paths
from runs.models import LogLine, Run, State
from runs.starting import RunOptions, start_outside, start_run

_ENDING = re.compile(r"\s*\(Rerun #\d+\)$")


@transaction.atomic
def rerun(run: Run, caller: Caller, newest: bool = False, inputs: Mapping[str, Any] | None = None) -> Run:
    """A new run with the same inputs, or with these instead, on the version that the run had, or on the graph's newest one.

    Raises Conflict for a run whose version isn't here or that has no inputs to change, and what starting raises.
    """
    original = (
        Run.objects.select_for_update(of=("self",)).select_related("namespace", "graph__current", "graph__namespace", "version", "dataset").get(pk=run.pk)
    )
    number, run_id = _next(original)
    base = _ENDING.sub("", original.name or original.run_id)
    options = replace(_options(original), run_id=run_id, name=f"{base[:480]} (Rerun #{number})")
    if inputs is not None:
        options = replace(options, inputs=dict(inputs))
    made = _start(original, options, caller, newest, inputs is not None)
    Run.objects.filter(pk=original.pk).update(rerun_count=number)
    changed = " with other inputs" if inputs is not None and dict(inputs) != original.initial_data else ""
    LogLine.objects.create(run=made, message=f"Rerun #{number} of {original.run_id}{changed}, asked for by {caller.label}")
    Run.objects.filter(pk=made.pk).update(log_count=made.log_count + 1)
    made.refresh_from_db()
    return made


def _next(run: Run) -> tuple[int, str]:
    number = run.rerun_count
    while True:
        number += 1
        run_id = f"{run.run_id[:180]}_rerun_{number}"
        if not Run.objects.filter(namespace=run.namespace_id, run_id=run_id).exists():
            return number, run_id


def _options(run: Run) -> RunOptions:
    return RunOptions(
        inputs=run.initial_data, store=run.store, labels=run.labels, metadata=run.metadata, workspace=run.workspace, session_id=run.session_id,
        purpose=run.purpose, sop=run.sop, max_steps=run.max_steps,
    )  # fmt: skip


def _start(run: Run, options: RunOptions, caller: Caller, newest: bool, changed: bool) -> Run:
    if run.graph is None:
        return start_outside(run.namespace, options, caller, Run.Trigger.RERUN, run)
    version: GraphVersion | None = run.graph.current if newest else run.version
    if version is None:
        raise errors.Conflict("The run was not made by this system; its graph has no version to run again.")
    if made := _made_states(run):
        if changed:
            raise errors.Conflict("The run was made of single states, which have inputs of their own; the run has none to change.")
        return _create(run, version, options, made, caller)
    return start_run(run.graph, options, run.dataset, caller, Run.Trigger.RERUN, version, run)


def _made_states(run: Run) -> list[tuple[str, object]]:
    """The states that the run was made of, if it wasn't started at its roots (`runs.creating`)."""
    branch = State.objects.filter(run=run, parent=None, path__startswith=f"{paths.BRANCH}:", retry_count=0, fanout_id="").order_by("pk")
    seen: dict[tuple[str, str], object] = {}
    for state in branch:
        if state.inputs is not None:
            seen.setdefault((state.identifier, state.path.split(".")[0]), state.inputs)
    return [(identifier, inputs) for (identifier, _), inputs in seen.items()]


def _create(run: Run, version: GraphVersion, options: RunOptions, made: list[tuple[str, object]], caller: Caller) -> Run:
    assert run.graph is not None
    run.graph.current, run.graph.current_id = version, version.pk  # for this call only: nothing is saved
    new, _ = creating.create_states(run.graph, options.run_id, made, caller)
    values = {
        "name": options.name,
        "parent": run,
        "trigger": Run.Trigger.RERUN,
        "labels": options.labels,
        "metadata": options.metadata,
        "workspace": options.workspace,
    }
    Run.objects.filter(pk=new.pk).update(**values)
    new.refresh_from_db()
    return new
