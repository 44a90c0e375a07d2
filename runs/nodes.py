"""`langgraph.run`: a LangGraph application as a node. It is there when the extra of requirements-langgraph.txt and langgraph itself are installed."""

import hashlib
import importlib.util
import json
from typing import Any

from django.conf import settings
from django.db.models import Max
from django.utils.module_loading import import_string
from typing_extensions import TypedDict

from graphs.nodes.base import NodeFailed, WaitForAnswer, node
from runs.engine.node_context import NodeContext
from runs.models import Checkpoint, CheckpointWrite


class Ran(TypedDict):
    thread: str
    values: Any


def run_application(
    ctx: NodeContext, app: str, input: dict[str, Any] = {}, thread: str = ""
) -> Ran:  # noqa: B006  (pydantic copies it)
    """Run a LangGraph application of LANGGRAPH_APPS on a thread of its own. What it asks is asked here; an attempt that died goes on where it was."""
    from langgraph.types import Command

    from runs.langgraph.saver import DjangoSaver

    if app not in settings.LANGGRAPH_APPS:
        raise NodeFailed(
            f"there is no application {app!r} in LANGGRAPH_APPS; there are {', '.join(settings.LANGGRAPH_APPS) or 'none'}"
        )
    name = thread or _thread_of(ctx)
    config: Any = {"configurable": {"thread_id": name}}
    compiled = import_string(settings.LANGGRAPH_APPS[app])(DjangoSaver(ctx.namespace))
    state = compiled.get_state(config)
    if not state.created_at:
        compiled.invoke(input, config)
    elif state.interrupts and ctx.answer is None:
        raise _question(state.interrupts[0])
    elif state.interrupts and _is_for(ctx, name):
        compiled.invoke(Command(resume={state.interrupts[0].id: ctx.answer["value"]}), config)
    elif state.next:
        compiled.invoke(None, config)
    state = compiled.get_state(config)
    if state.interrupts:
        raise _question(state.interrupts[0])
    return Ran(thread=name, values=json.loads(json.dumps(state.values, default=str)))


def _thread_of(ctx: NodeContext) -> str:
    """A thread for each state of each run, one that no attempt of another will ever share; the run's id and the node's name are for people."""
    own = hashlib.sha256(f"{ctx.state.run.pk}:{ctx.state.step}".encode()).hexdigest()[:16]
    return f"{ctx.run_id[:100]}-{ctx.identifier[:80]}-{own}"


def _is_for(ctx: NodeContext, name: str) -> bool:
    """Whether the thread stands where it stood when this answer was first given to it.

    An attempt that died may have left that place: then its answer is used up, and must not answer the next question.
    """
    assert ctx.answer is not None
    here = _place(ctx.namespace, name)
    return bool(ctx.once("answered", ctx.answer["at"], lambda: here) == here)


def _place(namespace: str, name: str) -> str:
    """The newest checkpoint of the thread and of its subgraphs, with what was asked and answered since."""
    thread = {"run__namespace__name": namespace, "run__run_id": name}
    newest = Checkpoint.objects.filter(**thread).aggregate(pk=Max("pk"))["pk"]
    found = hashlib.sha256(str(newest).encode())
    for pk, body in (
        CheckpointWrite.objects.filter(**thread, idx__lt=0).order_by("pk").values_list("pk", "body")
    ):
        found.update(f"{pk}:".encode() + hashlib.sha256(bytes(body or b"")).digest())
    return found.hexdigest()


def _question(interrupt: Any) -> WaitForAnswer:
    asked: dict[str, Any] = (
        interrupt.value if isinstance(interrupt.value, dict) else {"question": str(interrupt.value)}
    )
    schema = asked.get("schema")
    return WaitForAnswer(
        str(asked.get("question", asked)), schema if isinstance(schema, dict) else None
    )


if all(importlib.util.find_spec(package) for package in ("langgraph", "langchain_core")):
    node("langgraph.run")(run_application)
