"""The Python API: starting runs of graphs from your own code, and following them.

    from statemanager import api

    run = api.start("orders", {"number": 17}, run_id="order-17")
    run.result(timeout=60)

A start is part of the transaction that it is called in: it is committed and rolled back with what
else your code stores there, and no worker sees the run before. All functions raise subclasses of
`StateManagerError`, each with a sentence: Malformed for values that can't be used, NotFound,
Conflict for what the present status doesn't allow, Forbidden where `user` lacks a right.

With `user`, a call may do what that user may do, and records name the user. Without, it may do
everything, and records name the system.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import QuerySet

from graphs.auth.callers import SYSTEM, Caller, caller_of_user
from graphs.auth.namespaces import ensure_namespace
from graphs.definition import errors, redaction
from graphs.definition.errors import (
    Conflict,
    Forbidden,
    InvalidGraph,
    Malformed,
    NotFound,
    StateManagerError,
    TooLarge,
)
from graphs.definition.types import Json, JsonObject
from graphs.models import Dataset, Graph
from graphs.services.publish import publish_graph
from runs.actions import delete
from runs.actions.rerun import RerunOptions, rerun
from runs.core import paths, statuses
from runs.engine import control
from runs.engine import start_many as many
from runs.engine.answer import WAITS, answer_state
from runs.engine.new_run import RunOptions
from runs.engine.retry import retry_failed
from runs.engine.start import start_run
from runs.models import Run
from runs.queries.filters import RunFilters

__all__ = [
    "Conflict",
    "Forbidden",
    "InvalidGraph",
    "Malformed",
    "NotFound",
    "RunFailed",
    "RunHandle",
    "StateManagerError",
    "TooLarge",
    "astart",
    "get",
    "publish",
    "runs",
    "start",
    "start_many",
]
DEFAULT_NAMESPACE = "default"
FIRST_WAIT_SECONDS = 0.02
LONGEST_WAIT_SECONDS = 0.5


class RunFailed(Exception):
    """A run whose result was asked for has ended without success. `run` is its handle."""

    def __init__(self, run: "RunHandle") -> None:
        super().__init__(f"The run {run.run_id} is {run.status}: {run.error or 'no error'}")
        self.run = run


@dataclass(eq=False)
class RunHandle:
    """A run, and what can be done with it.

    Its status and error are those of the last call that read or changed the run.
    """

    run: Run
    caller: Caller = field(default=SYSTEM, repr=False)

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def namespace(self) -> str:
        return self.run.namespace.name

    @property
    def status(self) -> str:
        """queued, running, paused, completed, partial, failed or cancelled."""
        return self.run.status

    @property
    def error(self) -> str:
        """The first error; "" if there is none. Hidden from users who may not see payloads."""
        sees = self.caller.can("payloads", self.run.namespace_id)
        return str(redaction.shown(self.run.error_message, sees)) if self.run.error_message else ""

    def refresh(self) -> "RunHandle":
        """Read the run again. Raises NotFound if it was deleted."""
        try:
            self.run.refresh_from_db()
        except Run.DoesNotExist:
            raise errors.NotFound(f"The run {self.run_id!r} was deleted.") from None
        return self

    def cancel(self) -> "RunHandle":
        """Cancel the run and all that it still has to do."""
        control.cancel_run(self.run, self.caller)
        return self.refresh()

    def pause(self) -> "RunHandle":
        """Begin nothing more of the run until `resume`. What runs now is still recorded."""
        control.pause_run(self.run, self.caller)
        return self.refresh()

    def resume(self) -> "RunHandle":
        """Let a paused run go on."""
        control.resume_run(self.run, self.caller)
        return self.refresh()

    def retry(self) -> "RunHandle":
        """Run what failed or was cancelled again, in this run."""
        retry_failed(self.run, self.caller)
        return self.refresh()

    def rerun(
        self,
        *,
        inputs: Mapping[str, Json] | None = None,
        newest: bool = False,
        failed: bool = False,
        node: str = "",
        delay: float = 0.0,
        idempotency_key: str = "",
    ) -> "RunHandle":
        """Start the run again as a new run, which is returned.

        `inputs` replace its own, `newest` takes the newest version of its graph, `failed` runs only
        what failed and `node` only from this node on. `delay` is in seconds. Repeated with the same
        `idempotency_key`, it returns the rerun that the first call made.
        """
        options = RerunOptions(
            newest=newest,
            inputs=inputs,
            failed=failed,
            node=node,
            delay=delay,
            idempotency_key=idempotency_key,
        )
        return RunHandle(rerun(self.run, self.caller, options), self.caller)

    def delete(self) -> None:
        """Delete the run with its states, logs and files. Raises Conflict unless it has ended."""
        delete.delete_run(self.run, self.caller)

    def answer(self, value: Json, node: str = "") -> "RunHandle":
        """Answer the question that the run asks a person; `node` chooses one of several.

        Raises NotFound if nothing waits for an answer, Conflict if several do, and Malformed if the
        answer doesn't fit the question's schema.
        """
        waiting = self.run.states.filter(WAITS)
        if node:
            waiting = waiting.filter(identifier=node)
        asking = list(waiting.values_list("pk", "identifier")[:2])
        if not asking:
            raise errors.NotFound(f"The run {self.run_id!r} waits for no such answer.")
        if len(asking) > 1:
            raise errors.Conflict(
                f"Several states of the run {self.run_id!r} wait for answers; name the node.",
                allowed=[identifier for _, identifier in asking],
            )
        answer_state(self.run, asking[0][0], value, self.caller)
        return self.refresh()

    def outputs(self, node: str) -> list[JsonObject]:
        """The outputs of a node: one, or one for each item of a fan-out, in its order.

        Raises Forbidden for a user who may not see what runs work on.
        """
        self.caller.require("payloads", self.run.namespace_id)
        states = self.run.states.filter(identifier=node, status=statuses.SUCCESS)
        rows = states.values_list("path", "pk", "outputs")
        ordered = sorted(rows, key=lambda row: (paths.order(row[0]), row[1]))
        return [outputs for _, _, outputs in ordered]

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait until the run has ended, and return the outputs of its last nodes, by node.

        They are the nodes from which no edge leads. A node below a fan-out has a list of outputs.
        `timeout` is in seconds. Raises TimeoutError when it is over, and RunFailed if the run
        failed, succeeded only in part or was cancelled.

        Don't wait in the transaction that started the run: it starts after the commit.
        """
        for seconds in self._pauses(timeout):
            sleep(seconds)
        return self._result()

    async def aresult(self, timeout: float | None = None) -> dict[str, Any]:
        """As `result`, without keeping a thread meanwhile."""
        pauses = self._pauses(timeout)
        next_pause = sync_to_async(lambda: next(pauses, None))
        while (seconds := await next_pause()) is not None:
            await asyncio.sleep(seconds)
        return await sync_to_async(self._result)()

    def _pauses(self, timeout: float | None) -> Iterator[float]:
        """The seconds to wait before each further look at the run, until it has ended."""
        over_at = None if timeout is None else monotonic() + timeout
        seconds = FIRST_WAIT_SECONDS
        while not self.refresh().run.ended:
            if over_at is not None and monotonic() >= over_at:
                raise TimeoutError(f"The run {self.run_id} is still {self.status}.")
            yield seconds
            seconds = min(seconds * 1.5, LONGEST_WAIT_SECONDS)

    def _result(self) -> dict[str, Any]:
        if self.status != statuses.COMPLETED:
            raise RunFailed(self)
        return self._last_outputs()

    def _last_outputs(self) -> dict[str, Any]:
        if self.run.version is None:  # an outside program drives it
            return {}
        plan = self.run.version.plan
        last = [name for name in plan.order if not plan.nodes[name].edges]
        found: dict[str, Any] = {}
        for name in last:
            values = self.outputs(name)
            below_fan_out = self.run.states.filter(identifier=name).exclude(path="").exists()
            if below_fan_out:
                found[name] = values
            elif values:
                found[name] = values[0]
        return found


def publish(
    graph: str,
    definition: Mapping[str, Json],
    *,
    namespace: str = DEFAULT_NAMESPACE,
    user: Any = None,
) -> int:
    """Make a definition the current version of a graph, and return the number of the version.

    The graph, and its namespace, are made if they don't exist. A definition that equals the current
    version makes no new one. Raises InvalidGraph with every problem in `extra["errors"]`.
    """
    caller = _caller(user)
    space = ensure_namespace(namespace, caller)
    published = publish_graph(space, graph, definition, caller)
    assert published.current is not None
    return published.current.number


def start(
    graph: str | Graph,
    inputs: Mapping[str, Json] | None = None,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    dataset: Dataset | None = None,
    user: Any = None,
    **options: Any,
) -> RunHandle:
    """Start a run of a graph's current version, without waiting for it.

    `graph` is a name in the namespace, or a Graph. `options` are those of RunOptions: `run_id`,
    `name`, `labels`, `workspace`, `session_id`, `priority` (-100 to 100), `delay`, `timeout` and
    `start_by` (seconds), `store`, `metadata`, `max_steps`.

    Repeated with the same `run_id` and the same options it returns the run that it started the
    first time. Raises InvalidGraph, and Conflict if another run has the id.
    """
    caller = _caller(user)
    found = _graph(graph, namespace, caller)
    run = start_run(found, _options(inputs, options), dataset, caller)
    return RunHandle(run, caller)


async def astart(
    graph: str | Graph, inputs: Mapping[str, Json] | None = None, **options: Any
) -> RunHandle:
    """As `start`, from a coroutine. Transactions of Django belong to threads: it is in none."""
    return await sync_to_async(start)(graph, inputs, **options)


def start_many(
    graph: str | Graph,
    items: Sequence[Mapping[str, Any]],
    *,
    namespace: str = DEFAULT_NAMESPACE,
    dataset: Dataset | None = None,
    user: Any = None,
) -> list[RunHandle]:
    """Start up to 10,000 runs together: all, or none. Returns them in the same order.

    Each item has `inputs` and the options of `start`. Repeated with the same run ids, it starts
    what is missing. Raises Malformed and Conflict with every problem in `extra["errors"]`.
    """
    caller = _caller(user)
    found = _graph(graph, namespace, caller)
    requested = []
    for item in items:
        options = dict(item)
        requested.append(_options(options.pop("inputs", None), options))
    runs_started = many.start_many(found, requested, dataset, caller)
    return [RunHandle(run, caller) for run in runs_started]


def get(run_id: str, *, namespace: str = DEFAULT_NAMESPACE, user: Any = None) -> RunHandle:
    """The run with this id. Raises NotFound."""
    caller = _caller(user)
    visible = Run.objects.visible_to(caller).select_related("namespace", "version", "graph")
    run = visible.filter(namespace__name=namespace, run_id=run_id).first()
    if run is None:
        raise errors.NotFound(f"There is no run {run_id!r} in the namespace {namespace!r}.")
    return RunHandle(run, caller)


def runs(*, user: Any = None, **filters: str) -> QuerySet[Run]:
    """The runs that match the filter words of the list of runs, newest first.

    `runs(graph="orders", status="failed", since="24h")`, or `runs(search="label:env=prod")`.
    Raises Malformed for filters that don't exist or can't be read.
    """
    caller = _caller(user)
    visible = Run.objects.visible_to(caller).order_by("-created_at", "-pk")
    return RunFilters.of_mapping(filters).apply(visible, caller)


def _caller(user: Any) -> Caller:
    return SYSTEM if user is None else caller_of_user(user)


def _graph(graph: str | Graph, namespace: str, caller: Caller) -> Graph:
    if isinstance(graph, Graph):
        return graph
    visible = Graph.objects.visible_to(caller).with_version()
    found = visible.filter(namespace__name=namespace, name=graph).first()
    if found is None:
        raise errors.NotFound(f"There is no graph {graph!r} in the namespace {namespace!r}.")
    return found


def _options(inputs: Mapping[str, Json] | None, options: Mapping[str, Any]) -> RunOptions:
    known = RunOptions.__dataclass_fields__
    unknown = [name for name in options if name not in known or name == "enqueue"]
    if unknown:
        raise TypeError(f"There is no option {', '.join(unknown)} of a run.")
    return RunOptions(inputs=dict(inputs or {}), **options)
