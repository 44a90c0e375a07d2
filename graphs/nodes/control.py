"""Nodes that control the course of a run: noop, log, delay, approval and fan_out."""

import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from graphs.definition.types import Json, JsonObject
from graphs.models import clock
from graphs.nodes.base import (
    MAX_ASSIGNEE,
    Context,
    NodeFailed,
    RunAgain,
    Unanswered,
    WaitForAnswer,
    node,
)


class Item(TypedDict):
    item: Json
    index: int


class Approved(TypedDict):
    approved: bool
    comment: str
    by: str
    data: Json


class Passed(TypedDict):
    value: Json


APPROVAL_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["approved"],
    "properties": {
        "approved": {"type": "boolean", "title": "Approved"},
        "comment": {"type": "string", "title": "Comment", "maxLength": 2000},
        "data": {
            "title": "Edited data",
            "description": (
                'JSON that replaces the data, such as {"text": "…"}. '
                "Leave it empty to keep the data as it is."
            ),
        },
    },
    "additionalProperties": False,
}


@node("noop")
def noop(ctx: Context, value: Json = None) -> Passed:
    """Return the value unchanged."""
    return Passed(value=value)


@node("log")
def log(
    ctx: Context, message: str, level: Literal["debug", "info", "warning", "error"] = "info"
) -> Passed:
    """Add a message to the log of the run and return it."""
    ctx.log(message, level)
    return Passed(value=message)


@node("delay")
def delay(ctx: Context, seconds: Annotated[float, Field(ge=0, le=366 * 86400)]) -> Passed:
    """Wait for a number of seconds before the branch continues. No worker is busy meanwhile."""
    due = ctx.once("delay", seconds, lambda: clock.now().timestamp() + seconds)
    remaining = due - clock.now().timestamp()
    if remaining > 0:
        raise RunAgain(remaining)

    return Passed(value=seconds)


UNANSWERED: Mapping[str, Unanswered] = {
    "fail": "fail",
    "refuse": "default",
    "approve": "default",
    "escalate": "escalate",
}


@node("approval")
def approval(
    ctx: Context,
    question: str,
    data: Json = None,
    fail_if_refused: bool = True,
    answer_by: Annotated[float, Field(gt=0)] | None = None,
    unanswered: Literal["fail", "refuse", "approve", "escalate"] = "fail",
    assignee: Annotated[str, Field(max_length=MAX_ASSIGNEE)] = "",
) -> Approved:
    """Wait until a person approves or refuses.

    The data is shown with the question, and the person may return an edited version of it. If the
    person refuses, the node fails, unless `fail_if_refused` is false.

    If nobody answers within `answer_by` seconds, the node fails, takes that for a refusal or an
    approval, or goes on waiting while the run says that the answer is overdue (`escalate`).

    `assignee` is whom the inbox shows the question as theirs: a username, or `group:` and a group.
    """
    if ctx.answer is None:
        raise WaitForAnswer(
            _with_data(question, data),
            APPROVAL_SCHEMA,
            answer_by=answer_by,
            unanswered=UNANSWERED[unanswered],
            default={"approved": unanswered == "approve", "comment": "nobody answered in time"},
            assignee=assignee,
        )

    value = ctx.answer["value"]
    by = ctx.answer["by"]
    if not value["approved"] and fail_if_refused:
        raise NodeFailed(f"refused by {by}: {value.get('comment') or 'no comment'}")
    return Approved(
        approved=value["approved"],
        comment=value.get("comment", ""),
        by=by,
        data=value.get("data", data),
    )


def _with_data(question: str, data: Json) -> str:
    if data is None:
        return question
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, indent=1)
    return f"{question}\n{text}"


@node("fan_out")
def fan_out(ctx: Context, items: list[Json]) -> list[Item]:
    """Start one branch for each item of a list."""
    return [Item(item=item, index=index) for index, item in enumerate(items)]
