"""Where nodes run: a thread calls some states' functions one after the other and keeps what came of each."""

import logging
import math
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from time import monotonic
from typing import Any, TypeVar

from django.db import connections

from graphs.definition import payloads, validation
from graphs.nodes.base import NodeFailed, Prune, RunAgain, WaitForAnswer, registry
from runs.core.failpoints import failpoint
from runs.engine.node_context import NodeContext, taken
from runs.engine.types import Claimed, Outcome

log = logging.getLogger(__name__)
T = TypeVar("T")
MAX_FAN_OUT = 20_000
LONGEST_DELAY_SECONDS = 366 * 24 * 3600.0


def run_node(state: Claimed, context: NodeContext) -> Outcome:
    """Call the node's function and say what came of it; whatever it raises is an outcome, too."""
    failpoint("before-node")
    try:
        outcome = _call(state, context)
    except NodeFailed as error:
        outcome = Outcome(state, "error", error=str(error))
    except payloads.NotJson as error:
        outcome = Outcome(state, "error", error=f"the node returned what can't be stored: {error}")
    except Exception as error:
        log.info("node %s of run %s failed", state.identifier, state.run.run_id, exc_info=True)
        outcome = Outcome(state, "error", error=f"{type(error).__name__}: {error}")
    except BaseException as error:
        if (
            isinstance(error, KeyboardInterrupt)
            and threading.current_thread() is threading.main_thread()
        ):
            raise  # Ctrl-C on a command that runs nodes itself
        outcome = Outcome(
            state, "error", error=f"the node tried to leave with {type(error).__name__}: {error}"
        )
    if context.given_up:
        outcome = Outcome(state, "release")
    outcome.error = payloads.clean(context.mask.text(outcome.error), 10_000)
    outcome.lines, outcome.emitted, outcome.files = (
        context.take_lines(),
        context.emitted,
        context.files,
    )
    return outcome


def _call(state: Claimed, context: NodeContext) -> Outcome:
    node = registry[state.node.kind]
    try:
        returned = node.call(context, **node.bound(state.inputs))
        if isinstance(returned, Iterator):
            returned = taken(returned, MAX_FAN_OUT)
    except Prune as signal:
        return Outcome(
            state, "prune", outputs=[payloads.dump(context.mask.value(signal.data or {}))]
        )
    except RunAgain as signal:
        if not math.isfinite(signal.after):
            raise NodeFailed(f"RunAgain takes seconds; not {signal.after}") from None
        return Outcome(state, "again", delay=min(max(0.0, signal.after), LONGEST_DELAY_SECONDS))
    except WaitForAnswer as signal:
        _check_schema(signal.schema)
        return Outcome(
            state,
            "wait",
            waiting_for=payloads.dump({"question": signal.question, "schema": signal.schema}),
        )
    values = returned if isinstance(returned, list) else [{} if returned is None else returned]
    if wrong := next((value for value in values if not isinstance(value, dict)), None):
        raise NodeFailed(f"the node returned {type(wrong).__name__}; an output is an object (dict)")
    values = [context.mask.value(value) for value in values]
    return Outcome(
        state,
        "done",
        [payloads.dump(value) for value in values],
        values,
        isinstance(returned, list),
    )


def _check_schema(schema: dict[str, Any]) -> None:
    try:
        validation.schema_validator(schema)
    except ValueError as error:
        raise NodeFailed(f"the answer's schema is no JSON Schema: {error}") from None


class NodeThread:
    """Some states run one after the other in a thread, all computing or one that waits; `done` grows while it works."""

    def __init__(self, states: Sequence[Claimed], until: float) -> None:
        self.kind, self.left = states[0].node.kind, deque(states)
        self.until = until
        self.done: deque[Outcome] = deque()
        self.current: tuple[Claimed, NodeContext] | None = None
        self.began = monotonic()
        self.future: Future[None] | None = None
        self.speeds: deque[tuple[str, float]] = deque()

    def work(self) -> None:
        """Run the states until the slice's time is over; what isn't begun stays in `left`."""
        first = True
        while first or monotonic() < self.until:
            first = False
            if (state := _popped(self.left)) is None:
                return
            context = NodeContext(state)
            self.current, self.began = (state, context), monotonic()
            self.done.append(run_node(state, context))
            self.speeds.append((state.node.kind, monotonic() - self.began))
            self.current = None
            if has_side_effects(state):
                break

    def work_in_thread(self) -> None:
        try:
            self.work()
        finally:
            connections.close_all()

    @property
    def over(self) -> bool:
        return self.future is None or self.future.done()

    @property
    def empty(self) -> bool:
        return self.over and not self.done and not self.left


def has_side_effects(state: Claimed) -> bool:
    kind = registry.get(state.node.kind)
    return state.node.side_effects or bool(kind and kind.side_effects)


def _popped(queue: deque[T]) -> T | None:
    """The first item, unless another thread was faster."""
    try:
        return queue.popleft()
    except IndexError:
        return None


def emptied(queue: deque[T]) -> list[T]:
    taken = []
    while (item := _popped(queue)) is not None:
        taken.append(item)
    return taken
