"""How a node is written and found: the `@node` decorator, what a node is given, and what it may raise.

    @node("greet")
    def greet(ctx: Context, name: str, shout: bool = False) -> Greeting:
        '''Say hello.'''

The first parameter is the context; the others are the node's typed inputs, from which its JSON Schema is made. It returns one output
(a dict, or None for an empty one), or a list or generator of outputs: a fan-out, one sibling state each. Nodes are found in
the `nodes` module of every installed app.
"""

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from typing_extensions import TypedDict, is_typeddict

from graphs.definition.plan import BUILTIN


class Column(TypedDict):
    name: str
    type: str


class Table(TypedDict):
    """A table between nodes: a file in the storage, never the rows themselves. `columns` are {name, type}."""

    file: str
    format: str
    columns: list[Column]
    rows: int


class File(TypedDict):
    """A file that a node made. `file` is its name in the storage; `size` is in bytes, `checksum` SHA-256."""

    name: str
    file: str
    size: int
    checksum: str


class Context(Protocol):
    """What a node is given beside its inputs. Everything it records counts only if this attempt is the recorded one."""

    run_id: str
    namespace: str
    identifier: str
    attempt: int
    idempotency_key: str  # the same for all attempts of a state
    dataset_id: int | None
    answer: Any  # what a person answered, after WaitForAnswer; else None

    @property
    def secrets(self) -> Mapping[str, str]:
        """The secrets that the node declares, as its graph has them. Their values are masked in whatever is stored of this attempt."""

    @property
    def cancelled(self) -> bool:
        """True once the run was cancelled or this attempt lost its lease: stop soon, nothing more is recorded."""

    def log(self, message: str, level: str = "info") -> None:
        """One line, visible on the run within a second."""

    def progress(self, fraction: float) -> None:
        """How far this attempt is, from 0 to 1."""

    def emit(self, rows: int) -> None:
        """Count rows towards the run's `total_emitted`."""

    def once(self, tool: str, args: Any, call: Callable[[], Any]) -> Any:
        """The recorded result of this tool call, or call() recorded now; never computed again once recorded. Always as JSON gives it back."""

    def artifact(self, name: str) -> AbstractContextManager["Written"]:
        """A new file of the run, open for writing bytes; `.file` of what it gives is the File afterwards."""

    def dataset_table(self, name: str) -> Table:
        """A table of the run's dataset."""

    def rows(self, table: Table) -> Iterator[dict[str, Any]]:
        """The rows of a table, streamed."""

    def write_table(
        self, name: str, rows: Iterator[Mapping[str, Any]], columns: list[Column] | None = None
    ) -> Table:
        """A new table of the run, streamed to the storage."""

    def open_file(self, file: str) -> AbstractContextManager[BinaryIO]:
        """A file of this run or its dataset, for reading."""


class Written(Protocol):
    file: File

    def write(self, data: bytes) -> int: ...


class Prune(Exception):
    """Raised by a node: this branch ends here, without failing. `data` is kept with the state."""

    def __init__(self, data: Any = None) -> None:
        self.data = data


class RunAgain(Exception):
    """Raised by a node: run this state again after so many seconds. That is no retry and no failure."""

    def __init__(self, after: float) -> None:
        self.after = after


class WaitForAnswer(Exception):
    """Raised by a node: wait for a person. Once answered the node runs again and finds the answer in `ctx.answer`.

    `question` is shown to the person; `schema` is the JSON Schema that the answer must fit.
    """

    def __init__(self, question: str, schema: Mapping[str, Any] | None = None) -> None:
        self.question, self.schema = question, dict(schema or {})


class NodeFailed(Exception):
    """Raised by a node that fails for a reason worth saying as it is, without the exception's type in front."""


@dataclass(frozen=True)
class BuiltinNode:
    """A registered function with its schemas. `waits`: it spends its time waiting (network), so many run at once."""

    name: str
    call: Callable[..., Any]
    inputs: type[BaseModel]
    outputs_schema: dict[str, Any]
    description: str
    waits: bool
    side_effects: bool
    secrets: tuple[str, ...] = ()

    @property
    def inputs_schema(self) -> dict[str, Any]:
        return self.inputs.model_json_schema()

    def bound(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs as the function's arguments. Raises NodeFailed naming each input that doesn't fit."""
        try:
            model = self.inputs.model_validate(inputs)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
            )
            raise NodeFailed(f"inputs don't fit: {wrong}") from None
        return {name: getattr(model, name) for name in self.inputs.model_fields}


class Registry(dict[str, BuiltinNode]):
    """The nodes of this process by name."""

    def store(self, **kwargs: Any) -> None:
        """Write the nodes to the database, so that graphs, pages and the API can name them (after each migrate)."""
        from graphs.models import Namespace, RegisteredNode

        namespace, _ = Namespace.objects.get_or_create(name=BUILTIN)
        for node in self.values():
            values = {
                "executor": "builtin",
                "description": node.description,
                "inputs_schema": node.inputs_schema,
                "outputs_schema": node.outputs_schema,
                "secrets": list(node.secrets),
            }
            stored, made = RegisteredNode.objects.get_or_create(
                namespace=namespace, name=node.name, defaults=values
            )
            if not made and any(getattr(stored, key) != value for key, value in values.items()):
                RegisteredNode.objects.filter(pk=stored.pk).update(**values)


registry = Registry()


def node(
    name: str, *, waits: bool = False, side_effects: bool = False, secrets: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as a node. `side_effects`: it is recorded alone and at once after it ran.

    `secrets` names those of its graph that it may read.
    """

    def register(call: Callable[..., Any]) -> Callable[..., Any]:
        if name in registry and registry[name].call.__module__ != call.__module__:
            raise ValueError(
                f"two nodes are named {name!r}: in {registry[name].call.__module__} and {call.__module__}"
            )
        description = inspect.cleandoc(call.__doc__ or "")
        registry[name] = BuiltinNode(
            name,
            call,
            _inputs_model(name, call),
            _outputs_schema(call),
            description,
            waits,
            side_effects,
            tuple(secrets),
        )
        return call

    return register


def _inputs_model(name: str, call: Callable[..., Any]) -> type[BaseModel]:
    hints = typing.get_type_hints(call, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(call).parameters.values())[1:]:
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints.get(parameter.name, Any), default)
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _outputs_schema(call: Callable[..., Any]) -> dict[str, Any]:
    returned = typing.get_type_hints(call).get("return", dict)
    if typing.get_origin(returned) in (list, Iterator) or getattr(
        typing.get_origin(returned), "__name__", ""
    ) in ("Iterator", "Generator"):
        returned = typing.get_args(returned)[0]
    try:
        schema = TypeAdapter(returned).json_schema()
        return {**schema, "additionalProperties": False} if is_typeddict(returned) else schema
    except (PydanticSchemaGenerationError, PydanticUserError):
        return {"type": "object"}
