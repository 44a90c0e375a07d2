"""A run before it is stored: what a caller may choose for it, the checks, and its root states."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from graphs.auth.callers import Caller
from graphs.definition import errors, labels, names, payloads, uuids
from graphs.definition.plan import Plan
from graphs.definition.schema import MAX_TIME_LIMIT
from graphs.definition.types import Json
from graphs.models import Dataset, Graph, GraphVersion, Namespace
from runs.core import sql
from runs.engine import priority, run_inputs
from runs.engine.advance import CannotFollow, new_state
from runs.engine.concurrency import wanted
from runs.engine.recorded_outputs import RecordedOutputs
from runs.engine.slots import Wanted
from runs.engine.types import NewState, RunFacts
from runs.models import Run
from statemanager.conf import conf

MAX_DELAY_SECONDS = 10 * 366 * 24 * 3600
MAX_ROOT_BYTES = 64 * 2**20  # of the inputs of the states with which a run starts


class TimeLimits(NamedTuple):
    """Seconds, as in `RunOptions`; None means those of the graph."""

    timeout: float | None = None
    start_by: float | None = None


@dataclass
class RunOptions:
    """What a caller may choose for a run.

    `inputs` override the inputs that root nodes declare. `delay` is in seconds. `max_steps` bounds
    the number of states that are started; None means the limit of the graph. So does None for
    `priority`, and for `timeout` and `start_by`, the seconds that the run may take and wait for its
    start. `enqueue` lets a program take an external run from the queue.
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
    timeout: float | None = None
    start_by: float | None = None

    def fingerprint(self, graph: Graph | None, dataset: Dataset | None) -> str:
        """A digest that is the same for the same request.

        By it a repeated request finds the run that it started. Raises NotJson.
        """
        options = dict(vars(self))
        # The digests of runs of earlier versions lack these.
        for name in ("priority", "timeout", "start_by"):
            if options[name] is None:
                del options[name]
        if not self.enqueue:
            del options["enqueue"]
        request = [graph.pk if graph else None, dataset.pk if dataset else None, options]
        return hashlib.sha256(payloads.dump(request).encode()).hexdigest()


@dataclass(slots=True)
class Start:
    """A run that is about to be inserted, with its root states. `options` have their defaults.

    `slot` is the one that it needs, if its graph has a concurrency limit.
    """

    run: Run
    facts: RunFacts
    roots: list[NewState]
    options: RunOptions
    slot: Wanted | None = None

    @property
    def first_line(self) -> list[object]:
        message = f"Starting graph execution with {len(self.facts.plan.order)} nodes"
        return [self.run.pk, None, 0, "", "info", message, sql.stamp(self.run.created_at)]


# --- the run -------------------------------------------------------------------------------------


def prepare(
    graph: Graph,
    version: GraphVersion,
    requested: RunOptions,
    dataset: Dataset | None,
    caller: Caller,
    trigger: str,
    parent: Run | None = None,
) -> Start:
    """A new run of the version with its root states, checked and rendered but not stored.

    Raises Malformed, TooLarge for what is larger than a run may be, and StateManagerError for a
    store key that is missing.
    """
    plan = version.plan
    # The defaults of the graph's schema are no part of the request.
    options = replace(requested, inputs=run_inputs.with_defaults(requested.inputs, plan))
    if parent is None:  # a rerun has the labels of its parent
        labels.check(options.labels)
    _check(options, plan)
    if requested.run_id:
        requested.run_id = options.run_id = names.checked("run id", requested.run_id)
    fingerprint = fingerprint_of(requested, graph, dataset)
    run = new_run(graph.namespace, options, caller, trigger, fingerprint)
    run.graph = graph
    run.version = version
    run.dataset = dataset
    run.priority = plan.priority if options.priority is None else options.priority
    set_parent(run, parent)
    facts = RunFacts.of(run, version.checksum)
    roots = _root_states(facts, plan, options.delay)
    _count_roots(run, roots)
    run.reruns_left = plan.reruns if parent is None else 0
    return Start(run, facts, roots, options, wanted(run, plan))


def new_run(
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
        stored_bytes=_given_bytes(options),
    )


def _given_bytes(options: RunOptions) -> int:
    """The bytes of what the run itself holds of the request."""
    values = (options.inputs, options.store, options.metadata)
    texts = [payloads.dump(dict(value), sys.maxsize) for value in values if value]
    given = sum(map(payloads.size, texts))
    return given + len(options.sop.encode()) + len(options.purpose.encode())


def set_parent(run: Run, parent: Run | None) -> None:
    run.parent = parent
    if parent is None:
        run.root = None
    else:
        run.root = parent.root or parent.pk


# --- checking ------------------------------------------------------------------------------------


def startable(graph: Graph, version: GraphVersion | None) -> GraphVersion:
    """The version. Raises InvalidGraph if it can't run."""
    if version is None:
        raise errors.InvalidGraph(f"The graph {graph} has no version to run.")
    if version.problems:
        problems = "; ".join(problem["message"] for problem in version.problems)
        raise errors.InvalidGraph(f"The graph {graph} can't run: {problems}")
    return version


def _check(options: RunOptions, plan: Plan) -> None:
    """Raises an error if the plan can't run with these options."""
    priority.check(options.priority or 0)
    check_delay(options.delay)
    _check_limit("timeout", options.timeout)
    _check_limit("start_by", options.start_by)
    run_inputs.check(options.inputs, plan.inputs_schema)
    missing = [
        key
        for key in plan.store_required
        if key not in options.store and key not in plan.store_defaults
    ]
    if missing:
        raise errors.StateManagerError(f"The store keys {', '.join(missing)} are required.")


def check_delay(seconds: float) -> None:
    """Raises Malformed if a run can't start so much later."""
    if not 0 <= seconds <= MAX_DELAY_SECONDS:
        raise errors.Malformed(f"The delay is from 0 to {MAX_DELAY_SECONDS:,} seconds.")


def _check_limit(name: str, seconds: float | None) -> None:
    """Raises Malformed for a time limit that is not positive, or absurdly long."""
    if seconds is not None and not 0 < seconds <= MAX_TIME_LIMIT:
        raise errors.Malformed(f"`{name}` is above 0 and at most {MAX_TIME_LIMIT:,} seconds.")


def fingerprint_of(options: RunOptions, graph: Graph | None, dataset: Dataset | None) -> str:
    """The fingerprint of the request. Raises Malformed if it can't be stored."""
    try:
        return options.fingerprint(graph, dataset)
    except payloads.NotJson as error:
        raise errors.Malformed(f"The request can't be stored: {error}.") from None


# --- the root states -----------------------------------------------------------------------------


def _root_states(facts: RunFacts, plan: Plan, delay: float) -> list[NewState]:
    roots: list[NewState] = []
    size = 0
    try:
        for identifier in plan.shape.roots:
            roots.append(_root_state(facts, identifier))
            size += roots[-1].size
            if size > MAX_ROOT_BYTES:
                raise errors.TooLarge(
                    f"The states with which the run starts would have more than {MAX_ROOT_BYTES:,}"
                    " bytes of inputs together."
                )
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
    run.stored_bytes += sum(root.size for root in roots)
    limit = conf.MAX_RUN_BYTES
    if run.stored_bytes > limit:
        raise errors.TooLarge(
            f"The run would store more than {limit:,} bytes from the start. Give it less, or raise"
            " MAX_RUN_BYTES."
        )


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
