"""Tracebacks of nodes that failed, as lines of the run's log."""

import threading
import traceback
from collections import OrderedDict
from types import TracebackType

from runs.engine.types import Claimed

HEADING = "Traceback (most recent call last):"  # occurs in groups of exceptions, too
MAX_FRAMES = 30  # of each exception: the first and the last of more
MAX_CHARACTERS = 8_000
MAX_SEEN = 1000
# The frames before those of a node.
CALLERS = ("runs.engine.", "graphs.nodes.base")

Place = tuple[object, ...]
_seen: OrderedDict[Place, None] = OrderedDict()
_lock = threading.Lock()


def new_traceback(error: BaseException, state: Claimed) -> str:
    """The traceback of a node's error, from the node's own function on, without local variables.

    It is empty if the error was not raised in the node, or if an error of the same type at the same
    place of the run was shown before: the siblings and retries of a node often fail alike.
    """
    run = state.run
    own = _own_frames(error.__traceback__)
    if own is None:
        return ""
    lines = tuple(line for _, line in traceback.walk_tb(own))
    if not _is_new((run.pk, run.run_id, state.identifier, state.attempt, type(error), lines)):
        return ""
    described = traceback.TracebackException(type(error), error, own, compact=True)
    _shorten(described)
    text = "".join(described.format())
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{HEADING}\n…\n{text[-MAX_CHARACTERS:]}"


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    while trace and trace.tb_frame.f_globals.get("__name__", "").startswith(CALLERS):
        trace = trace.tb_next
    return trace


def _is_new(place: Place) -> bool:
    with _lock:
        if place in _seen:
            _seen.move_to_end(place)
            return False
        _seen[place] = None
        if len(_seen) > MAX_SEEN:
            _seen.popitem(last=False)
        return True


def _shorten(described: traceback.TracebackException) -> None:
    """Drop frames in the middle of a deep recursion, of the error and of those that caused it."""
    error: traceback.TracebackException | None = described
    while error is not None:
        if len(error.stack) > MAX_FRAMES:
            error.stack[MAX_FRAMES // 2 : -MAX_FRAMES // 2] = []
        error = error.__cause__ or error.__context__


def forget() -> None:
    """Show all errors again, for tests."""
    with _lock:
        _seen.clear()
