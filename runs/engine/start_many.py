"""Starting many runs in one transaction: all of them, or none.

A chunk of runs takes a constant number of statements. A run id that is taken is no error if the
run that has it was started by the same request, so a repeated call starts what is missing.
"""

from collections.abc import Iterable, Iterator, Sequence

from django.db import IntegrityError, transaction

from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import errors
from graphs.models import Dataset, Graph, GraphVersion
from runs.core import sql
from runs.core.failpoints import failpoint
from runs.engine import (
    concurrency,
    deadlines,
    input_index,
    log_lines,
    quota,
    start_statement,
    store,
    wakeup,
)
from runs.engine.new_run import RunOptions, Start, prepare, startable
from runs.models import AuditEntry, Run, Tombstone

MAX_RUNS = 10_000
DELETED = "A graph or something that it needs was just deleted. No run was started."
MAX_PROBLEMS = 100  # that are named
MAX_STATES = 100_000  # that start with the runs of one request
MAX_BYTES = 64 * 2**20  # of the inputs of these states
_CHUNK_ROWS = 1000
_CHUNK_BYTES = 8 * 2**20
_IDS = 500  # in one statement


def start_many(
    graph: Graph,
    requested: Sequence[RunOptions],
    dataset: Dataset | None = None,
    caller: Caller = SYSTEM,
    trigger: str = "api",
    version: GraphVersion | None = None,
) -> list[Run]:
    """Start a run for each of these options, without waiting. Returns the runs in the same order.

    Options with the run id of earlier ones, or of a run that the same options started before, give
    that run. Raises InvalidGraph; TooLarge for more than MAX_RUNS and for a namespace without room;
    and Malformed, Conflict or Gone with every problem: then no run was started.
    """
    caller.require("start", graph.namespace_id)
    if len(requested) > MAX_RUNS:
        raise errors.TooLarge(
            f"{len(requested):,} runs can't start at once; {MAX_RUNS:,} are allowed."
        )
    version = startable(graph, version or graph.current)
    starts = _prepared(graph, version, requested, dataset, caller, trigger)
    unique: dict[str, Start] = {}
    for start in starts:
        unique.setdefault(start.run.run_id, start)
    try:
        with transaction.atomic():
            problem = quota.problem(graph.namespace)
            new = insert(unique.values(), caller)
            if new and problem:
                raise errors.TooLarge(problem)
            runs = _in_order(starts, new)
    except IntegrityError:
        raise errors.NotFound(DELETED) from None
    failpoint("run-created-before-response")
    return runs


def insert(starts: Iterable[Start], caller: Caller) -> dict[str, Run]:
    """Store these runs with what belongs to them, in the caller's transaction, and add a hint.

    They may be runs of several graphs; their run ids differ. Returns those that are new, by run id;
    the others have ids that are taken. Raises Gone for the ids of deleted runs, and NotFound if a
    graph was deleted meanwhile.
    """
    starts = list(starts)
    new: dict[str, Run] = {}
    # In the order of the run ids, so that two calls with the same ids don't wait for each other.
    ordered = sorted(starts, key=lambda start: start.run.run_id)
    for chunk in _chunks(ordered):
        new |= _insert_chunk(chunk, caller)
    # Last, because others who start runs wait for the locks that this takes.
    concurrency.take_slots([start for start in starts if start.run.run_id in new], caller)
    if any(not start.options.delay and start.run.run_id in new for start in ordered):
        wakeup.hint()
    return new


def _chunks(starts: Iterable[Start]) -> Iterator[list[Start]]:
    """The starts in chunks of a bounded number of rows and bytes."""
    chunk: list[Start] = []
    rows = size = 0
    for start in starts:
        chunk.append(start)
        rows += 1 + len(start.roots)
        size += start.run.stored_bytes
        if rows >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, rows, size = [], 0, 0
    if chunk:
        yield chunk


def _insert_chunk(starts: Sequence[Start], caller: Caller) -> dict[str, Run]:
    graphs = {start.run.graph_id for start in starts if start.run.graph_id}
    declared = input_index.declared_by(graphs)
    if graphs - {graph for graph, _, _ in declared}:
        raise errors.NotFound(DELETED)
    runs = {run.run_id: run for run in start_statement.insert_many([start.run for start in starts])}
    _refuse_deleted(starts)
    new = [start for start in starts if start.run.run_id in runs]
    if not new:
        return {}
    for start in new:
        start.facts.pk = start.run.pk
    statements = sql.Statements()
    states = [store.state_row(root) for start in new for root in start.roots]
    store.insert_states(states, statements)
    log_lines.insert([start.first_line for start in new], statements)
    statements.flush()
    input_index.store_many(runs.values(), declared)
    deadlines.store_many([(start.run, start.options) for start in new])
    if caller.via != "system":
        entries = [(run.namespace_id, run.pk, run.run_id) for run in runs.values()]
        AuditEntry.objects.record_many(caller, "start", entries)
    return runs


def _refuse_deleted(starts: Sequence[Start]) -> None:
    """Raises Gone for run ids of deleted runs. Called after the insertion, as `refuse` is."""
    chosen = {
        (start.run.namespace_id, start.run.run_id) for start in starts if start.options.run_id
    }
    if not chosen:
        return
    deleted = Tombstone.objects.filter(
        namespace__in={namespace for namespace, _ in chosen},
        run_id__in=[run_id for _, run_id in chosen],
    )
    sentences = [
        tombstone.sentence
        for tombstone in deleted.order_by("run_id")
        if (tombstone.namespace_id, tombstone.run_id) in chosen
    ]
    if sentences:
        raise errors.Gone(
            "Some run ids are those of deleted runs.", errors=sentences[:MAX_PROBLEMS]
        )


# --- the requests --------------------------------------------------------------------------------


def _prepared(
    graph: Graph,
    version: GraphVersion,
    requested: Sequence[RunOptions],
    dataset: Dataset | None,
    caller: Caller,
    trigger: str,
) -> list[Start]:
    """The runs to start, rendered. Raises Malformed with the problems of all of them."""
    starts: list[Start] = []
    problems: list[str] = []
    known: dict[str, str] = {}  # fingerprints by run id
    states = version.plan.shape.roots
    if len(states) * len(requested) > MAX_STATES:
        raise errors.TooLarge(
            f"{len(requested):,} runs of a graph with {len(states):,} roots would start more than "
            f"{MAX_STATES:,} states at once. Start fewer."
        )
    size = count = 0
    for at, options in enumerate(requested):
        try:
            start = prepare(graph, version, options, dataset, caller, trigger)
        except errors.StateManagerError as error:
            found = list(_described(at, error))
            count += len(found)
            problems += found[: max(0, MAX_PROBLEMS - len(problems))]
            continue
        run = start.run
        size += run.stored_bytes
        if size > MAX_BYTES:
            raise errors.TooLarge(
                f"These runs, and the states with which they start, would have more than "
                f"{MAX_BYTES:,} bytes of inputs together. Start fewer runs at once."
            )
        if known.setdefault(run.run_id, run.fingerprint) != run.fingerprint:
            count += 1
            problems.append(f"runs/{at}: another run of the request has the run id {run.run_id!r}")
        starts.append(start)
    if problems:
        raise errors.Malformed(
            f"No run was started, because {_counted(count)}.", errors=problems[:MAX_PROBLEMS]
        )
    return starts


def _described(at: int, error: errors.StateManagerError) -> Iterator[str]:
    for problem in error.extra.get("errors") or [error.detail]:
        yield f"runs/{at}: {problem}"


def _counted(problems: int) -> str:
    return "there is a problem" if problems == 1 else f"there are {problems:,} problems"


def _in_order(starts: Sequence[Start], new: dict[str, Run]) -> list[Run]:
    """The run of each start: a new one, or the one that the same request started before.

    Raises Conflict for run ids that other requests have taken.
    """
    namespace = starts[0].run.namespace_id if starts else 0
    taken = sorted({start.run.run_id for start in starts} - new.keys())
    known = dict(new)
    for at in range(0, len(taken), _IDS):
        ids = taken[at : at + _IDS]
        found = Run.objects.filter(namespace=namespace, run_id__in=ids)
        known |= {run.run_id: run for run in found}
    problems = [
        f"runs/{at}: the run id {start.run.run_id!r} is taken by a run with another graph or "
        "other inputs"
        for at, start in enumerate(starts)
        if start.run.run_id not in known  # it was deleted meanwhile
        or known[start.run.run_id].fingerprint != start.run.fingerprint
    ]
    if problems:
        raise errors.Conflict(
            f"No run was started, because {_counted(len(problems))}.",
            errors=problems[:MAX_PROBLEMS],
        )
    return [known[start.run.run_id] for start in starts]
