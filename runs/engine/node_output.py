"""What nodes print, log and warn, as lines of the logs of their runs.

It is caught in the thread that calls the node; threads that the node starts are not known. It goes
where it went before, too.
"""

import logging
import sys
from contextvars import ContextVar, Token
from typing import TextIO

from runs.engine.node_context import MAX_LINE, NodeContext

# Loggers of what the engine itself does in the thread of a node.
NOT_OF_NODES = ("runs.", "graphs.", "statemanager.", "django.db.", "django-q", "django_q.")
_current: ContextVar[NodeContext | None] = ContextVar("node", default=None)


def begin(context: NodeContext) -> Token[NodeContext | None]:
    """Add what this thread prints and logs to the log of the context's run, until `end`."""
    return _current.set(context)


def end(context: NodeContext, token: Token[NodeContext | None]) -> None:
    _current.reset(token)
    stdout = sys.stdout
    if isinstance(stdout, NodeStdout):
        stdout.end(context)


def install() -> None:
    """Catch the output of nodes in this process."""
    root = logging.getLogger()
    if not any(isinstance(handler, RunLogHandler) for handler in root.handlers):
        root.addHandler(RunLogHandler())
    logging.captureWarnings(True)
    if not isinstance(sys.stdout, NodeStdout):
        sys.stdout = NodeStdout(sys.stdout)


class RunLogHandler(logging.Handler):
    """Adds the records of nodes to the logs of their runs, with the names of their loggers."""

    def emit(self, record: logging.LogRecord) -> None:
        context = _current.get()
        if context is None or record.name.startswith(NOT_OF_NODES):
            return
        try:
            context.log(f"{record.name}: {self.format(record).rstrip()}", _level(record.levelno))
        except Exception:  # as logging does: a wrong call must not end the node
            self.handleError(record)


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"


class NodeStdout:
    """The standard output, which adds the lines that nodes print to the logs of their runs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun: dict[NodeContext, str] = {}  # lines without their ends

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        context = _current.get()
        if context is not None:
            *lines, rest = (self._begun.pop(context, "") + text).split("\n")
            for line in lines:
                context.log(line)
            if len(rest) >= MAX_LINE:
                context.log(rest)
            elif rest:
                self._begun[context] = rest
        return self._stream.write(text)

    def end(self, context: NodeContext) -> None:
        """The node is over: its last line needs no end."""
        rest = self._begun.pop(context, "")
        if rest:
            context.log(rest)
