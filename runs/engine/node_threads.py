"""Node threads: each calls the functions of some states' nodes, one after the other."""

import logging
import math
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from time import monotonic
from typing import TypeVar, get_args

from django.db import connections

from graphs.definition import payloads
from graphs.definition.json_schema import SchemaValidator
from graphs.definition.types import Json, JsonObject
from graphs.nodes.base import (
    MAX_ASSIGNEE,
    NodeFailed,
    Prune,
    RunAgain,
    Unanswered,
    WaitForAnswer,
    registry,
)
from runs.core.failpoints import failpoint
from runs.engine import node_output, tracebacks
from runs.engine.node_context import NodeContext
from runs.engine.turns import BacklogKey
from runs.engine.types import Claimed, Outcome

log = logging.getLogger(__name__)
T = TypeVar("T")
MAX_FAN_OUT = 20_000  # outputs of one state
MAX_FAN_OUT_BYTES = 64 * 2**20  # of all outputs of one state, as JSON
MAX_DELAY_SECONDS = 366 * 24 * 3600.0


def run_node(state: Claimed, context: NodeContext) -> Outcome:
    """Call the function of the state's node. Whatever it raises becomes an outcome, too."""
    failpoint("before-node")
    caught = node_output.begin(context)
    try:
        outcome = _call(state, context)
    except NodeFailed as error:
        outcome = Outcome(state, "error", error=str(error))
    except payloads.NotJson as error:
        outcome = Outcome(state, "error", error=f"the node returned what can't be stored: {error}")
    except Exception as error:
        trace = tracebacks.new_traceback(error, state)
        if trace:
            context.log(trace, "error")
            shown = context.mask.text(trace)
            log.info("node %s of run %s failed\n%s", state.identifier, state.run.run_id, shown)
        outcome = Outcome(state, "error", error=f"{type(error).__name__}: {error}")
    except BaseException as error:
        if _is_ctrl_c(error):
            raise
        reason = f"the node tried to leave with {type(error).__name__}: {error}"
        outcome = Outcome(state, "error", error=reason)
    finally:
        node_output.end(context, caught)
    if context.given_up:
        outcome = Outcome(state, "release")
    outcome.error = payloads.clean(context.mask.text(outcome.error), 10_000)
    outcome.lines = context.take_lines()
    outcome.emitted = context.emitted
    outcome.files = context.files
    return outcome


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether somebody interrupts a command that runs nodes in its own thread."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and in_main_thread


def _call(state: Claimed, context: NodeContext) -> Outcome:
    node = registry[state.node.kind]
    if state.answer and state.answer.get("unanswered") == "fail":
        raise NodeFailed("nobody answered in time")
    try:
        returned = node.call(context, **node.bound(state.inputs))
        return _done(state, context, returned)  # here, because a generator runs only now
    except Prune as signal:
        data = context.mask.value(signal.data or {})
        return Outcome(state, "prune", outputs=[payloads.dump(data)])
    except RunAgain as signal:
        if not math.isfinite(signal.after):
            raise NodeFailed(f"RunAgain takes seconds; not {signal.after}") from None
        return Outcome(state, "again", delay=min(max(0.0, signal.after), MAX_DELAY_SECONDS))
    except WaitForAnswer as signal:
        return _question(state, context, signal)


def _question(state: Claimed, context: NodeContext, signal: WaitForAnswer) -> Outcome:
    _check_schema(signal.schema)
    waiting_for: JsonObject = {"question": signal.question, "schema": signal.schema}
    if signal.answer_by is not None:
        if not 0 < signal.answer_by <= MAX_DELAY_SECONDS:
            raise NodeFailed(f"answer_by is a number of seconds up to {MAX_DELAY_SECONDS:,.0f}")
        if signal.unanswered not in get_args(Unanswered):
            raise NodeFailed(f"unanswered is one of {', '.join(get_args(Unanswered))}")
        if signal.unanswered == "default":
            _check_default(signal)
            waiting_for["default"] = signal.default
        waiting_for |= {"answer_by": signal.answer_by, "unanswered": signal.unanswered}
    if signal.assignee:
        if not isinstance(signal.assignee, str) or len(signal.assignee) > MAX_ASSIGNEE:
            raise NodeFailed(f"assignee is a text of up to {MAX_ASSIGNEE} characters")
        waiting_for["assignee"] = signal.assignee
    text = payloads.dump(context.mask.value(waiting_for))
    return Outcome(state, "wait", waiting_for=text, answer_by=signal.answer_by)


def _check_default(signal: WaitForAnswer) -> None:
    for problem in SchemaValidator(signal.schema).iter_errors(signal.default):
        raise NodeFailed(f"the default answer doesn't fit the question's schema: {problem.message}")


def _done(state: Claimed, context: NodeContext, returned: object) -> Outcome:
    """The outcome of a node that returned. A list or a generator is a fan-out, and None an empty
    output.
    """
    fanned = isinstance(returned, list | Iterator)
    values: list[Json] = []
    outputs: list[str] = []
    size = 0
    only = {} if returned is None else returned
    for value in returned if isinstance(returned, list | Iterator) else [only]:
        if not isinstance(value, dict):
            kind = type(value).__name__
            raise NodeFailed(f"the node returned {kind}; an output is an object (dict)")
        if len(values) == MAX_FAN_OUT:
            raise NodeFailed(f"it has more than {MAX_FAN_OUT:,} outputs")
        masked = context.mask.value(value)
        text = payloads.dump(masked)
        size += payloads.size(text)
        if size > MAX_FAN_OUT_BYTES:
            raise NodeFailed(f"its outputs have more than {MAX_FAN_OUT_BYTES:,} bytes together")
        values.append(masked)
        outputs.append(text)
    return Outcome(state, "done", outputs, values, fanned)


def _check_schema(schema: JsonObject) -> None:
    try:
        SchemaValidator(schema)
    except ValueError as error:
        raise NodeFailed(f"the answer's schema is no JSON Schema: {error}") from None


class NodeThread:
    """Runs some states in a thread: any number that compute, or one that waits.

    `waiting`, `done` and `speeds` are shared with the executor, which empties them while the
    thread works. `until` is when the thread stops beginning states, by the monotonic clock.
    """

    def __init__(self, states: Sequence[Claimed], until: float) -> None:
        self.kind = states[0].node.kind
        self.until = until
        self.waiting = deque(states)
        self.done: deque[Outcome] = deque()
        self.speeds: deque[tuple[BacklogKey, float]] = deque()  # in seconds
        self.current: tuple[Claimed, NodeContext] | None = None
        self.began = monotonic()
        self.future: Future[None] | None = None

    def work(self) -> None:
        """Run states until the time of the batch is over; at least one, and one with side effects
        only as the last.
        """
        first = True
        while first or monotonic() < self.until:
            first = False
            state = _popped(self.waiting)
            if state is None:
                return
            context = NodeContext(state)
            self.current = state, context
            self.began = monotonic()
            self.done.append(run_node(state, context))
            self.speeds.append((_backlog(state), monotonic() - self.began))
            self.current = None
            if has_side_effects(state):
                break

    def work_in_thread(self) -> None:
        try:
            self.work()
        finally:
            connections.close_all()

    @property
    def backlog(self) -> BacklogKey | None:
        """The backlog of the state that runs now."""
        current = self.current  # the thread may finish at any time
        return _backlog(current[0]) if current else None

    @property
    def seconds(self) -> float:
        """How long the present call has taken so far."""
        return monotonic() - self.began if self.current else 0.0

    @property
    def over(self) -> bool:
        return self.future is None or self.future.done()

    @property
    def empty(self) -> bool:
        return self.over and not self.done and not self.waiting


def _backlog(state: Claimed) -> BacklogKey:
    return state.run.namespace_id, state.node.kind


def has_side_effects(state: Claimed) -> bool:
    node = registry.get(state.node.kind)
    return state.node.side_effects or bool(node and node.side_effects)


def _popped(queue: deque[T]) -> T | None:
    """The first item; None if there is none, perhaps because another thread was faster."""
    try:
        return queue.popleft()
    except IndexError:
        return None


def emptied(queue: deque[T]) -> list[T]:
    """Take all items out of a queue that another thread uses."""
    items = []
    while (item := _popped(queue)) is not None:
        items.append(item)
    return items
