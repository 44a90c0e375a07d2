"""Nodes that only tests use: they fail, fan out, wait, flood the log and die when told to."""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

from django.db import connection

from graphs.nodes.base import Context, Prune, RunAgain, WaitForAnswer, node

calls: list[tuple[str, int]] = []  # (idempotency key, attempt) of each call of test.fail


@node("test.fail")
def fail(ctx: Context, message: str = "broken", times: int = 10**9) -> dict[str, Any]:
    """Fail in the first `times` calls of this step."""
    calls.append((ctx.idempotency_key, ctx.attempt))
    if sum(1 for key, _ in calls if key == ctx.idempotency_key) <= times:
        raise ValueError(message)
    return {"value": "recovered"}


broken = True  # whether the service that test.outage and test.tool call is away


@node("test.outage")
def outage(ctx: Context, value: Any = None) -> dict[str, Any]:
    """Fail as long as `broken` is set in this process."""
    if broken:
        raise ConnectionError("the service is away")
    return {"value": "recovered"}


@node("test.each")
def each(ctx: Context, items: list[Any]) -> Iterator[dict[str, Any]]:
    """A generator: one output for each item."""
    for item in items:
        yield {"value": item}


@node("test.prune")
def prune(ctx: Context, value: Any = None) -> dict[str, Any]:
    raise Prune({"why": value})


@node("test.again")
def again(ctx: Context, seconds: float = 0.0, times: int = 1) -> dict[str, Any]:
    if ctx.attempt <= times:
        raise RunAgain(seconds)
    return {"value": ctx.attempt}


@node("test.ask")
def ask(ctx: Context) -> dict[str, Any]:
    if ctx.answer is None:
        raise WaitForAnswer("How many?", {"type": "integer"})
    return {"value": ctx.answer["value"]}


@node("test.assign")
def assign(ctx: Context, assignee: Any) -> dict[str, Any]:
    raise WaitForAnswer("Who?", assignee=assignee)


@node("test.return")
def give(ctx: Context, what: str) -> Any:
    """Return something that cannot be an output."""
    deep: Any = {}
    for _ in range(100_000):
        deep = {"d": deep}
    return {
        "nan": {"x": float("nan")},
        "nul": {"x": "a\x00b"},
        "surrogate": {"x": "\ud800"},
        "object": {"x": object()},
        "number": 7,
        "zero": 0,
        "empty": "",
        "zeros": [0],
        "lists": [[]],
        "deep": deep,
    }[what]


@node("test.nested")
def nested(ctx: Context, levels: int, by_tool: bool = False) -> dict[str, Any]:
    """Return an object of so many levels, or use it as the result of a tool."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"d": value}
    if by_tool:
        ctx.once("tool", {}, lambda: value)
        return {}
    return value


@node("test.prints")
def prints(ctx: Context, letters: int = 0) -> dict[str, Any]:
    print("one\ntwo", end="")
    print("x" * letters)
    log = logging.getLogger("shop.prices")
    log.info("price %s", 5)
    log.debug("not shown")
    logging.getLogger("django.db.backends").error("of the engine")
    warnings.warn("old price", stacklevel=1)
    ctx.log("done", count=3, name="a b")
    print("no end", end="")
    return {}


@node("test.descend")
def descend(ctx: Context, depth: int = 3) -> dict[str, Any]:
    """Fail some calls below the node, because of another error."""

    def down(left: int) -> None:
        if left:
            down(left - 1)
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("no price") from error

    local = "a value of a local variable"
    down(depth)
    return {"value": local}


@node("test.raise")
def raise_one(ctx: Context, how: str) -> dict[str, Any]:
    """Raise an exception without a text, a group of exceptions, or one with a note."""
    if how == "empty":
        raise AssertionError
    error = ValueError("no price")
    if how == "note":
        error.add_note("a note")
        raise error
    raise ExceptionGroup("several", [error])


@node("test.secret", secrets=["token"])
def secret(ctx: Context) -> dict[str, Any]:
    raise ValueError(f"refused {ctx.secrets['token']}")


@node("test.flood")
def flood(ctx: Context, lines: int = 100_000) -> dict[str, Any]:
    for number in range(lines):
        ctx.log(f"line {number}")
    return {}


@node("test.transaction")
def transaction(ctx: Context) -> dict[str, Any]:
    return {"value": connection.in_atomic_block}


@node("test.sleep", waits=True)
def sleep(ctx: Context, seconds: float = 0.2, value: Any = None, path: str = "") -> dict[str, Any]:
    if path:
        _note(ctx, path)
    ctx.log("begun")
    ctx.progress(0.5)
    time.sleep(seconds)
    return {"value": value}


sending: list[int] = []  # for each call of test.send, how many calls ran when it began
_running_sends: list[str] = []


@node("test.send", waits=True, side_effects=True)
def send(ctx: Context) -> dict[str, Any]:
    """A node with side effects, of which only one may run at a time."""
    _running_sends.append(ctx.idempotency_key)
    sending.append(len(_running_sends))
    time.sleep(0.02)
    _running_sends.remove(ctx.idempotency_key)
    return {}


@node("test.work")
def work(ctx: Context, seconds: float = 0.05, value: Any = None) -> dict[str, Any]:
    """Burn processor time."""
    ctx.log("begun")
    _burn(ctx, seconds)
    return {"value": value}


def _burn(ctx: Context, seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and not ctx.cancelled:
        pass


@node("test.count")
def count(ctx: Context, path: str, seconds: float = 0.0, value: Any = None) -> dict[str, Any]:
    """Burn processor time after noting the execution in a file, for `tests.chaos.executions`."""
    _note(ctx, path)
    _burn(ctx, seconds)
    return {"value": value}


@node("test.tick")
def tick(ctx: Context, path: str, seconds: float = 0.001, value: Any = None) -> dict[str, Any]:
    """The same as test.count under a name of its own, which workers learn to be fast."""
    return count(ctx, path, seconds, value)


def _note(ctx: Any, path: str) -> None:
    with open(path, "a") as file:
        file.write(f"{ctx.state.id} {ctx.attempt} {os.getpid()} {ctx.identifier}\n")


@node("test.who")
def who(ctx: Context, value: Any = None) -> dict[str, Any]:
    """Return what the node is told about its run."""
    return {"run": ctx.run_id, "key": ctx.idempotency_key, "value": value}


@node("test.exit")
def leave(ctx: Context) -> dict[str, Any]:
    os._exit(3)


@node("test.once")
def once(ctx: Context, path: str, seconds: float = 0.0) -> dict[str, Any]:
    """Call a tool and run again: the second attempt must not compute the result again."""

    def call() -> dict[str, Any]:
        with open(path, "a") as file:
            file.write("called\n")
        return {"pid": os.getpid()}

    result = ctx.once("tool", {"path": path}, call)
    if ctx.attempt == 1:
        raise RunAgain(seconds)
    return result


@node("test.shapes")
def shapes(ctx: Context) -> dict[str, Any]:
    """Log the result of a tool call in each of two attempts."""
    ctx.log(repr(ctx.once("tool", {}, lambda: {"longer": 1e16, "b": (1, ("x",)), 3: True})))
    if ctx.attempt == 1:
        raise RunAgain(0)
    return {}


@node("test.file")
def written(ctx: Context, size: int) -> dict[str, Any]:
    """Write a file of this many bytes, 1,000 at a time."""
    with ctx.artifact("file.txt") as file:
        for _ in range(size // 1000):
            file.write(b"x" * 1000)
    return {}


@node("test.texts")
def texts(ctx: Context, sizes: list[int]) -> dict[str, Any]:
    """Record texts of these lengths as results of calls."""
    for size in sizes:
        ctx.once("tool", size, lambda size=size: "x" * size)
    return {}


@node("test.tool")
def tool(ctx: Context, path: str, fails: bool = False, seconds: float = 0.0) -> dict[str, Any]:
    """Call a tool, which writes a line to the file, and then burn processor time.

    If `fails` is set, the node fails after the call for as long as `broken` is set.
    """

    def call() -> int:
        with open(path, "a") as file:
            file.write(f"{ctx.idempotency_key}\n")
        return 1

    value = ctx.once("tool", {}, call)
    if fails and broken:
        raise ConnectionError("the service is away")
    _burn(ctx, seconds)
    return {"value": value}


@node("test.emit")
def emit(ctx: Context, rows: int = 3) -> dict[str, Any]:
    ctx.emit(rows)
    with ctx.artifact("note.txt") as file:
        file.write(b"hello")
    return {"file": file.file}


counted: list[str] = []  # the run ids of the calls of test.counted
counted_outputs: list[dict[str, Any]] = []  # what it returns: one output, or a fan-out


@node("test.counted")
def give_counted(ctx: Context) -> Any:
    """Return `counted_outputs`, and remember the call."""
    counted.append(ctx.run_id)
    return counted_outputs[0] if len(counted_outputs) == 1 else list(counted_outputs)
