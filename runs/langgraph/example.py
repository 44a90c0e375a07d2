"""The LangGraph application of the examples.

It drafts a reply to a ticket, asks a person whether to send it, and then sends it or not.
"""

from typing import TYPE_CHECKING

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

SEND = {
    "type": "object",
    "required": ["send"],
    "properties": {
        "send": {"type": "boolean", "title": "Send it"},
        "text": {"type": "string", "title": "Better text"},
    },
}


class Ticket(TypedDict, total=False):
    ticket: str
    reply: str
    sent: bool


def _draft(state: Ticket) -> Ticket:
    subject = state.get("ticket", "nothing")
    return {"reply": f"Thank you for writing about “{subject}”. We will look into it today."}


def _review(state: Ticket) -> Ticket:
    answer = interrupt({"question": f"Send this reply?\n{state['reply']}", "schema": SEND})
    return {"reply": answer.get("text") or state["reply"], "sent": bool(answer["send"])}


def assistant(saver: "BaseCheckpointSaver[str]") -> "CompiledStateGraph":
    """Return the compiled application, which stores its threads with this saver."""
    graph = StateGraph(Ticket)
    graph.add_node("draft", _draft)
    graph.add_node("review", _review)
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "review")
    graph.add_edge("review", END)
    return graph.compile(checkpointer=saver)
