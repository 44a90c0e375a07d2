"""`langgraph.run`: a LangGraph application as a node. It is there when the extra of requirements-langgraph.txt and langgraph itself are installed."""

import importlib.util
import json
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string
from typing_extensions import TypedDict

from graphs.nodes.base import Context, NodeFailed, WaitForAnswer, node


class Ran(TypedDict):
    thread: str
    values: Any


def run_application(ctx: Context, app: str, input: dict[str, Any] = {}, thread: str = "") -> Ran:  # noqa: B006  (pydantic copies it)
    """Run a LangGraph application of LANGGRAPH_APPS on a thread of its own. What it asks is asked here; an attempt that died goes on where it was."""
    from langgraph.types import Command

    from runs.checkpoints import DjangoSaver

    if app not in settings.LANGGRAPH_APPS:
        raise NodeFailed(f"there is no application {app!r} in LANGGRAPH_APPS; there are {', '.join(settings.LANGGRAPH_APPS) or 'none'}")
    name = thread or f"{ctx.run_id}-{ctx.identifier}"[:200]
    config: Any = {"configurable": {"thread_id": name}}
    compiled = import_string(settings.LANGGRAPH_APPS[app])(DjangoSaver(ctx.namespace))
    state = compiled.get_state(config)
    if not state.created_at:
        compiled.invoke(input, config)
    elif state.interrupts:
        _ask_unless_answered(ctx, state.interrupts[0])
        assert ctx.answer is not None
        compiled.invoke(Command(resume=ctx.answer["value"]), config)
    elif state.next:
        compiled.invoke(None, config)
    state = compiled.get_state(config)
    if state.interrupts:
        _ask_unless_answered(ctx, state.interrupts[0])
    return Ran(thread=name, values=json.loads(json.dumps(state.values, default=str)))


def _ask_unless_answered(ctx: Context, interrupt: Any) -> None:
    """One answer is for one question: which, is recorded, so that an attempt that died between two of them doesn't take it for the other."""
    if ctx.answer is not None and ctx.once("answered", ctx.answer["at"], lambda: interrupt.id) == interrupt.id:
        return
    asked: dict[str, Any] = interrupt.value if isinstance(interrupt.value, dict) else {"question": str(interrupt.value)}
    schema = asked.get("schema")
    raise WaitForAnswer(str(asked.get("question", asked)), schema if isinstance(schema, dict) else None)


if all(importlib.util.find_spec(package) for package in ("langgraph", "langchain_core")):
    node("langgraph.run")(run_application)
