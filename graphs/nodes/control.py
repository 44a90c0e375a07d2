"""Nodes that steer a run: delay, approval, fan out, log, and one that does nothing."""

import time
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from graphs.nodes.base import Context, NodeFailed, RunAgain, WaitForAnswer, node


class Item(TypedDict):
    item: Any
    index: int


class Approved(TypedDict):
    approved: bool
    comment: str
    by: str
    data: Any


class Passed(TypedDict):
    value: Any


APPROVAL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["approved"],
    "properties": {
        "approved": {"type": "boolean", "title": "Approved"},
        "comment": {"type": "string", "title": "Comment", "maxLength": 2000},
        "data": {
            "title": "Edited data",
            "description": 'Empty: the data stays as it is. Otherwise JSON, such as {"text": "…"}.',
        },
    },
    "additionalProperties": False,
}


@node("noop")
def noop(ctx: Context, value: Any = None) -> Passed:
    """Do nothing; hand on the value."""
    return Passed(value=value)


@node("log")
def log(
    ctx: Context, message: str, level: Literal["debug", "info", "warning", "error"] = "info"
) -> Passed:
    """Write a line to the run's log and hand it on."""
    ctx.log(message, level)
    return Passed(value=message)


@node("delay")
def delay(ctx: Context, seconds: Annotated[float, Field(ge=0, le=366 * 86400)]) -> Passed:
    """Let the branch go on after so many seconds. No worker is busy meanwhile."""
    due = ctx.once("delay", seconds, lambda: time.time() + seconds)
    if (left := due - time.time()) > 0:
        raise RunAgain(left)
    return Passed(value=seconds)


@node("approval")
def approval(
    ctx: Context, question: str, data: Any = None, fail_if_refused: bool = True
) -> Approved:
    """Wait for a person to approve or refuse; `data` is shown and may come back edited."""
    if ctx.answer is None:
        shown = question if data is None else f"{question}\n{data}"
        raise WaitForAnswer(shown, APPROVAL_SCHEMA)
    value = ctx.answer["value"]
    if not value["approved"] and fail_if_refused:
        raise NodeFailed(f"refused by {ctx.answer['by']}: {value.get('comment') or 'no comment'}")
    return Approved(
        approved=value["approved"],
        comment=value.get("comment", ""),
        by=ctx.answer["by"],
        data=value.get("data", data),
    )


@node("fan_out")
def fan_out(ctx: Context, items: list[Any]) -> list[Item]:
    """One branch for each item of the list."""
    return [Item(item=item, index=index) for index, item in enumerate(items)]
