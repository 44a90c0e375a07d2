"""The node `langgraph.run`, which runs a LangGraph application.

It is registered only if the packages of requirements-langgraph.txt and langgraph are installed.
"""

import hashlib
import importlib.util
import json
from typing import TYPE_CHECKING

from django.db.models import Max
from django.utils.module_loading import import_string
from typing_extensions import TypedDict

from graphs.definition.types import Json, JsonObject
from graphs.nodes.base import NodeFailed, WaitForAnswer, node
from runs.engine.node_context import NodeContext
from runs.models import Checkpoint, CheckpointWrite
from runs.queries.drivers import started_by
from statemanager.conf import conf

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.types import Interrupt


class ApplicationResult(TypedDict):
    """The id of the application's thread, and the values of its channels at the end."""

    thread: str
    values: Json


def run_application(
    ctx: NodeContext,
    app: str,
    input: JsonObject = {},  # noqa: B006  (pydantic copies it)
    thread: str = "",
) -> ApplicationResult:
    """Run a LangGraph application of LANGGRAPH_APPS on a thread of its own.

    The questions of the application become questions of the run. After a crash the next attempt
    continues the thread where it was.
    """
    from langgraph.types import Command

    thread = thread or _thread_id(ctx)
    config: RunnableConfig = {"configurable": {"thread_id": thread}}
    application = _application(app, ctx)
    state = application.get_state(config)
    if not state.created_at:
        application.invoke(input, config)
    elif state.interrupts and ctx.answer is None:
        raise _question(state.interrupts[0])
    elif state.interrupts and _answers_current_question(ctx, thread):
        answer = {state.interrupts[0].id: ctx.answer["value"]}
        application.invoke(Command(resume=answer), config)
    elif state.next:
        application.invoke(None, config)

    state = application.get_state(config)
    if state.interrupts:
        raise _question(state.interrupts[0])
    values = json.loads(json.dumps(state.values, default=str))
    return ApplicationResult(thread=thread, values=values)


def _application(name: str, ctx: NodeContext) -> "CompiledStateGraph":
    """Return the application, compiled with a saver. Raises NodeFailed if it is unknown.

    A thread that the saver makes knows this run, so that a rerun of the thread reruns the run.
    """
    from runs.langgraph.saver import DjangoSaver

    if name not in conf.LANGGRAPH_APPS:
        known = ", ".join(conf.LANGGRAPH_APPS) or "none"
        raise NodeFailed(f"there is no application {name!r} in LANGGRAPH_APPS; it has {known}")
    make = import_string(conf.LANGGRAPH_APPS[name])
    origin = started_by(ctx.state.run.pk, ctx.run_id, ctx.identifier)
    return make(DjangoSaver(ctx.namespace, origin=origin))


def _thread_id(ctx: NodeContext) -> str:
    """Return the thread of this state, which all its attempts and no other state share.

    The digest makes it unique. The run id and the identifier are there for readers only.
    """
    digest = hashlib.sha256(f"{ctx.state.run.pk}:{ctx.state.step}".encode()).hexdigest()[:16]
    return f"{ctx.run_id[:100]}-{ctx.identifier[:80]}-{digest}"


def _answers_current_question(ctx: NodeContext, thread: str) -> bool:
    """Return whether the thread is still at the question that the answer was given to.

    An earlier attempt may have passed the answer on before it died. The answer is used up then, and
    must not become the answer to the next question.
    """
    assert ctx.answer is not None
    position = _position(ctx.namespace, thread)
    return bool(ctx.once("answered", ctx.answer["at"], lambda: position) == position)


def _position(namespace: str, thread: str) -> str:
    """Return a digest that changes with each checkpoint, question and answer of the thread.

    Those of its subgraphs are included.
    """
    of_thread = {"run__namespace__name": namespace, "run__run_id": thread}
    newest = Checkpoint.objects.filter(**of_thread).aggregate(pk=Max("pk"))["pk"]
    control_writes = CheckpointWrite.objects.filter(**of_thread, idx__lt=0).order_by("pk")
    position = hashlib.sha256(str(newest).encode())
    for pk, body in control_writes.values_list("pk", "body"):
        position.update(f"{pk}:".encode() + hashlib.sha256(bytes(body or b"")).digest())
    return position.hexdigest()


def _question(interrupt: "Interrupt") -> WaitForAnswer:
    """Return an application's interrupt as a question of the run."""
    value = interrupt.value
    if not isinstance(value, dict):
        return WaitForAnswer(str(value))
    schema = value.get("schema")
    return WaitForAnswer(
        str(value.get("question", value)), schema if isinstance(schema, dict) else None
    )


if all(importlib.util.find_spec(package) for package in ("langgraph", "langchain_core")):
    node("langgraph.run")(run_application)
