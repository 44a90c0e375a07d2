"""Small LangGraph applications for the tests of the saver."""

import importlib.util
import operator
from collections.abc import Callable
from typing import Annotated, Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict


class Order(TypedDict, total=False):
    amount: int
    tries: int
    said: Annotated[list[str], operator.add]


class Results(TypedDict, total=False):
    results: Annotated[list[int], operator.add]


class Spread(TypedDict, total=False):
    items: list[int]
    item: int
    results: Annotated[list[int], operator.add]


def approval(saver: Any) -> Any:
    """Asks a person before it continues."""

    def approve(state: Order) -> Order:
        answer = interrupt({"question": f"Pay {state['amount']}?"})
        return {"said": [f"approved: {answer}"]}

    graph = StateGraph(Order)
    graph.add_node("ask", lambda state: {"said": ["asked"]})
    graph.add_node("approve", approve)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "approve")
    graph.add_edge("approve", END)
    return graph.compile(checkpointer=saver)


def answer(value: Any) -> Any:
    return Command(resume=value)


def fragile(saver: Any) -> Any:
    """Fails until the attribute `fragile.ready` is set."""

    def work(state: Order) -> Order:
        if not getattr(fragile, "ready", False):
            raise ValueError("not yet")
        return {"said": ["done"]}

    graph = StateGraph(Order)
    graph.add_node("work", work)
    graph.add_edge(START, "work")
    graph.add_edge("work", END)
    return graph.compile(checkpointer=saver)


def watching(saver: Any, look: Callable[[], Any]) -> Any:
    """Calls `look` while it runs."""

    def call_look(state: Order) -> Order:
        look()
        return {"said": ["looked"]}

    graph = StateGraph(Order)
    graph.add_node("look", call_look)
    graph.add_edge(START, "look")
    graph.add_edge("look", END)
    return graph.compile(checkpointer=saver)


def spread(saver: Any) -> Any:
    """Runs a subgraph for each item, in parallel."""
    inner = StateGraph(Spread, output_schema=Results)
    inner.add_node("double", lambda state: {"results": [state["item"] * 2]})
    inner.add_edge(START, "double")
    inner.add_edge("double", END)
    graph = StateGraph(Spread)
    graph.add_node("one", inner.compile())
    graph.add_conditional_edges(
        START, lambda state: [Send("one", {"item": item}) for item in state["items"]], ["one"]
    )
    graph.add_edge("one", END)
    return graph.compile(checkpointer=saver)


def has_aes() -> bool:
    return importlib.util.find_spec("Crypto") is not None


def fernet(inner: Any = None) -> Any:
    """LangGraph's encryption with Fernet, which needs no further package."""
    from cryptography.fernet import Fernet
    from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    key = Fernet(Fernet.generate_key())

    class Cipher:
        def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
            return "fernet", key.encrypt(plaintext)

        def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
            return key.decrypt(ciphertext)

    return EncryptedSerializer(Cipher(), inner or JsonPlusSerializer())


def two_questions(saver: Any) -> Any:
    """A task that asks two questions."""

    def ask(state: Order) -> Order:
        return {"said": [interrupt("first?"), interrupt("second?")]}

    return _graph_of(ask).compile(checkpointer=saver)


def answered_in_vain(saver: Any) -> Any:
    """A task that fails after it got its answer."""

    def ask(state: Order) -> Order:
        raise ValueError(f"{interrupt('well?')} is of no use")

    return _graph_of(ask).compile(checkpointer=saver)


def _graph_of(work: Any) -> Any:
    """A graph with one node."""
    graph = StateGraph(Order)
    graph.add_node("work", work)
    graph.add_edge(START, "work")
    graph.add_edge("work", END)
    return graph


def side_by_side(saver: Any, **tasks: Callable[[], str]) -> Any:
    """Tasks in one step; their results are appended to `said`, in their order."""

    def node(task: Callable[[], str]) -> Any:
        return lambda state: {"said": [task()]}

    graph = StateGraph(Order)
    for name, task in tasks.items():
        graph.add_node(name, node(task))
        graph.add_edge(START, name)
    return graph.compile(checkpointer=saver)


def two_people(saver: Any) -> Any:
    """Two tasks that ask at the same time."""
    return side_by_side(saver, left=lambda: interrupt("left?"), right=lambda: interrupt("right?"))


def joining(saver: Any) -> Any:
    """Three nodes, of which the last waits for both others; it is interrupted before that one."""
    graph = StateGraph(Order)
    for name in ("a", "b", "c"):
        graph.add_node(name, lambda state, name=name: {"said": [name]})
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    graph.add_edge(["a", "b"], "c")
    graph.add_edge("c", END)
    return graph.compile(checkpointer=saver, interrupt_before=["c"])


def doubling(saver: Any) -> Any:
    graph = StateGraph(Order)
    graph.add_node("double", lambda state: {"amount": state["amount"] * 2})
    graph.add_edge(START, "double")
    graph.add_edge("double", END)
    return graph.compile(checkpointer=saver)
