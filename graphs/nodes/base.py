"""How to write a node: the decorator, the context, and the exceptions that a node may raise.

    from graphs.nodes.base import Context, node

    class Greeting(TypedDict):
        text: str

    @node("greet")
    def greet(ctx: Context, name: str, shout: bool = False) -> Greeting:
        '''Greet somebody by name.'''
        text = f"Hello {name}!"
        return Greeting(text=text.upper() if shout else text)

The first parameter is the context. The other parameters are the inputs of the node; their type
hints (anything that pydantic understands) become the JSON Schema that graphs are checked against.

A node returns one output, which is a dict, or `None` for an empty output. A node that returns a
list, or that is a generator, fans out: each item becomes a sibling state. Every output must be
JSON that can be stored.

State Manager imports the module `nodes` of every installed app, so a node is registered as soon as
its function is defined there.
"""

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, Concatenate, Literal, ParamSpec, Protocol, TypeVar

import jsonschema_rs
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from typing_extensions import TypedDict, is_typeddict

from graphs.definition.json_schema import trusted_validator
from graphs.definition.plan import BUILTIN
from graphs.definition.types import Json, JsonObject
from graphs.services.column_types import Column as Column  # node authors import it from here
from graphs.services.table_reader import TableRows

STOPPED = "stopped: the run was cancelled or the lease of this attempt was lost"


class Table(TypedDict):
    """A table that one node passes to the next: a reference to a stored file, not the rows.

    `file` is the name of the file in the storage, `format` is "csv" or "jsonl", and `rows` is the
    number of rows. Read it with `Context.rows` and write one with `Context.write_table`.
    """

    file: str
    format: str
    columns: list[Column]
    rows: int


class File(TypedDict):
    """A file that a node made.

    `name` is what people see and `file` is the name in the storage. `size` is in bytes, and
    `checksum` is the SHA-256 of the content in hexadecimal.
    """

    name: str
    file: str
    size: int
    checksum: str


class Answer(TypedDict):
    """A person's answer: the value, the name of the person, and the time in ISO 8601."""

    value: Json
    by: str
    at: str


class FileWriter(Protocol):
    """A file that is being written. `file` is set when the `with` block of `artifact` ends."""

    file: File

    def write(self, data: bytes) -> int:
        """Append to the file. Return the number of bytes written."""


class Context(Protocol):
    """What a node knows about its state, and the ways to report, to store and to read files.

    A state may run more than once, because a worker can die before it records the result. Logs,
    files and rows count only for the attempt that is recorded. Pass `idempotency_key` to the
    services that you call, or wrap the call in `once`.
    """

    run_id: str
    namespace: str
    identifier: str
    """The id of the node in its graph."""
    attempt: int
    """The number of times this state was claimed, from 1."""
    dataset_id: int | None
    answer: Answer | None
    """The answer of a person after `WaitForAnswer`; None before."""

    @property
    def secrets(self) -> Mapping[str, str]:
        """The values of the secrets that the node declares with `@node(..., secrets=[...])`.

        The values are masked in everything that is stored about this attempt. Raises NodeFailed if
        the graph lacks one of them.
        """

    @property
    def cancelled(self) -> bool:
        """Whether the run was cancelled, or this attempt lost its lease.

        A node that runs for long should check this now and then, and return soon. Nothing that it
        does afterwards is recorded.
        """

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts and retries of a step, and different for every other step.

        It is ASCII, so that it fits into a header.
        """

    def log(self, message: str, level: str = "info", **fields: object) -> None:
        """Add a line to the log of the run, where it shows within a second.

        `fields` are added to the message as name=value.

        `level` is "debug", "info", "warning" or "error"; any other raises ValueError. If a node
        logs faster than lines can be stored, the oldest lines are dropped.
        """

    def progress(self, fraction: float) -> None:
        """Report how much of the work is done, from 0 to 1.

        Values outside this range are clamped. Raises NodeFailed for NaN and infinity.
        """

    def emit(self, rows: int) -> None:
        """Add to the run's `total_emitted`. Raises NodeFailed for a negative number."""

    def once(self, tool: str, args: Json, call: Callable[[], Json]) -> Json:
        """Call a function once for all attempts of this step, and return the recorded result.

            charge = ctx.once("charge", {"order": order}, lambda: bank.charge(order))

        The first attempt runs `call` and records its result under `tool` and `args`. Later attempts
        get the recorded result without a call. Every attempt, including the first, gets the result
        as JSON returns it: tuples become lists, and keys become strings. A worker that dies after
        the call and before the record runs it again, so pass `idempotency_key` on as well.

        Raises NotJson if `args` or the result can't be stored as JSON.
        """

    def artifact(self, name: str) -> AbstractContextManager[FileWriter]:
        """Create a file of the run, open for writing bytes.

            with ctx.artifact("report.txt") as target:
                target.write(b"done")
            return {"report": target.file}

        The file is stored when the block ends, and discarded if the block raises. Raises NodeFailed
        if the name is empty.
        """

    def dataset_table(self, name: str) -> Table:
        """Look up a table of the run's dataset.

        Raises NodeFailed if the run has no dataset or the dataset has no table of this name.
        """

    def rows(self, table: Table) -> Iterator[JsonObject]:
        """Read the rows of a table one by one, without loading the file into memory.

        Values have the types that `graphs.services.column_types` describes. Raises BrokenTable if
        the file can't be read as a table, and NodeFailed once the run is cancelled.
        """

    def open_table(self, table: Table) -> AbstractContextManager[TableRows]:
        """Open a table to read a few columns of each row, and to pass rows on as they are.

            with ctx.open_table(table) as rows:
                for raw, values in rows.pairs(["id"]):
                    print(values["id"], rows.line(raw))

        Much faster than `rows`. Reading raises what that raises.
        """

    def write_lines(
        self,
        name: str,
        format: str,
        lines: Iterator[str],
        columns: list[Column],
        heading: str = "",
    ) -> Table:
        """Store the lines of a CSV or JSON Lines file as a table of the run, a row each.

        `heading` is the header of a CSV file, which names the `columns`.
        """

    def write_table(
        self,
        name: str,
        rows: Iterator[Mapping[str, Json]],
        columns: list[Column] | None = None,
    ) -> Table:
        """Store rows as a table of the run, one by one, and return a reference to it.

        Without `columns`, the columns are those that occur in the rows, in order of appearance.
        """

    def open_file(self, file: str) -> AbstractContextManager[BinaryIO]:
        """Open a stored file for reading bytes. `file` is the `file` of a File or a Table.

        Raises NodeFailed for files that belong neither to this run nor to its dataset.
        """


Output = Mapping[str, object] | None
NodeResult = Output | Sequence[Output] | Iterator[Output]

ContextT = TypeVar("ContextT", bound=Context)
Inputs = ParamSpec("Inputs")
Result = TypeVar("Result", bound=NodeResult)


class NodeDecorator(Protocol):
    """Registers a function as a node and returns it unchanged."""

    def __call__(
        self, function: Callable[Concatenate[ContextT, Inputs], Result], /
    ) -> Callable[Concatenate[ContextT, Inputs], Result]: ...


class Prune(Exception):
    """Raise it to end this branch without a failure. `data` (an object) is stored as the output."""

    def __init__(self, data: JsonObject | None = None) -> None:
        self.data = data


class RunAgain(Exception):
    """Raise it to run this state again after some seconds, at most 366 days.

    This counts neither as a failure nor as a retry, and no worker is busy in the meantime.
    """

    def __init__(self, after: float) -> None:
        self.after = after


Unanswered = Literal["fail", "default", "escalate"]
GROUP = "group:"  # before the name of a group that a question is for
MAX_ASSIGNEE = 156  # characters: GROUP and the longest name


class WaitForAnswer(Exception):
    """Raise it to wait until a person answers. The node then runs again with `ctx.answer` set.

        if ctx.answer is None:
            raise WaitForAnswer("How many?", {"type": "integer"})
        return {"count": ctx.answer["value"]}

    `question` is shown to the person. `schema` is a JSON Schema that the answer must satisfy; it is
    also the source of the form on the page.

    `answer_by` are the seconds within which somebody is to answer. If nobody does, `unanswered`
    says what happens: the state fails (`fail`), `ctx.answer` has the `default` as its value and
    "nobody" as its author (`default`), or the run's log says that the answer is overdue and the
    state goes on waiting (`escalate`).

    `assignee` names whom the question is for: a username, or `group:` and the name of a group. It
    is what people filter their inbox by. Everybody who may answer can still answer.
    """

    def __init__(
        self,
        question: str,
        schema: JsonObject | None = None,
        *,
        answer_by: float | None = None,
        unanswered: Unanswered = "fail",
        default: Json = None,
        assignee: str = "",
    ) -> None:
        self.question = question
        self.schema = dict(schema or {})
        self.answer_by = answer_by
        self.unanswered: Unanswered = unanswered
        self.default = default
        self.assignee = assignee


class NodeFailed(Exception):
    """Raise it to fail with a message that is shown without the name of an exception before it."""


@dataclass(frozen=True)
class BuiltinNode:
    """A registered function with the schemas of its inputs and outputs."""

    name: str
    call: Callable[..., NodeResult]
    inputs: type[BaseModel]
    outputs_schema: JsonObject
    description: str
    waits: bool
    side_effects: bool
    secrets: tuple[str, ...] = ()

    @property
    def inputs_schema(self) -> JsonObject:
        return self.inputs.model_json_schema()

    def bound(self, inputs: Mapping[str, Json]) -> JsonObject:
        """The inputs as keyword arguments of the function, converted to the types of its hints.

        Raises NodeFailed, which names every input that doesn't fit.
        """
        try:
            model = self._model(inputs)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
                for problem in error.errors()
            )
            raise NodeFailed(f"the inputs don't fit: {problems}") from None
        return {name: getattr(model, name) for name in self.inputs.model_fields}

    def _model(self, inputs: Mapping[str, Json]) -> BaseModel:
        """The inputs if their schema accepts them, by which a graph's literals are checked, too.

        By itself, pydantic would also take "yes" for true and true for 1.
        """
        try:
            return self.inputs.model_validate(inputs, strict=True)
        except ValidationError:
            if not self._validator.is_valid(dict(inputs)):
                raise
        # JSON writes dates as texts, and 1.0 is an integer by its schema.
        return self.inputs.model_validate(inputs)

    @cached_property
    def _validator(self) -> jsonschema_rs.Validator:
        return trusted_validator(self.inputs_schema)


class Registry(dict[str, BuiltinNode]):
    """The nodes of this process by name."""

    def store(self, **signal: object) -> None:
        """Write the nodes to the database, for validation, the pages and the API.

        This is also a receiver of `post_migrate`, so the rows are up to date after each migrate.
        """
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
            stored, created = RegisteredNode.objects.get_or_create(
                namespace=namespace, name=node.name, defaults=values
            )
            changed = any(getattr(stored, key) != value for key, value in values.items())
            if changed and not created:
                RegisteredNode.objects.filter(pk=stored.pk).update(**values)


registry = Registry()


def node(
    name: str, *, waits: bool = False, side_effects: bool = False, secrets: Sequence[str] = ()
) -> NodeDecorator:
    """Register the decorated function as a node under this name.

    `waits` says that the node spends its time waiting for the network; a worker then runs up to
    NODE_THREADS of them at the same time. `side_effects` says that running the node twice does
    harm; its result is then recorded alone, right after it ran. `secrets` lists the secrets of the
    graph that the node may read. The docstring of the function is shown on pages and in the API.

    Raises ValueError if another module has a node of the same name.
    """

    def register(
        function: Callable[Concatenate[ContextT, Inputs], Result], /
    ) -> Callable[Concatenate[ContextT, Inputs], Result]:
        _refuse_duplicate(name, function.__module__)
        registry[name] = BuiltinNode(
            name=name,
            call=function,
            inputs=_inputs_model(name, function),
            outputs_schema=_outputs_schema(function),
            description=inspect.cleandoc(function.__doc__ or ""),
            waits=waits,
            side_effects=side_effects,
            secrets=tuple(secrets),
        )
        return function

    return register


def _refuse_duplicate(name: str, module: str) -> None:
    """A module that is loaded twice may register its nodes again; another module may not."""
    if name in registry and registry[name].call.__module__ != module:
        raise ValueError(
            f"Two nodes are named {name!r}: one in {registry[name].call.__module__}, one in "
            f"{module}. Rename one of them."
        )


def _inputs_model(name: str, function: Callable[..., object]) -> type[BaseModel]:
    """A pydantic model with a field for each parameter after the context."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    fields: JsonObject = {}
    for parameter in parameters:
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints.get(parameter.name, Json), default)
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _outputs_schema(function: Callable[..., object]) -> JsonObject:
    """The schema of one output. A TypedDict allows no other keys; an unknown type allows any."""
    returned = typing.get_type_hints(function).get("return", dict)
    origin = typing.get_origin(returned)
    if origin is list or getattr(origin, "__name__", "") in ("Iterator", "Generator"):
        returned = typing.get_args(returned)[0]
    try:
        schema = TypeAdapter(returned).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError):
        return {"type": "object"}
    return {**schema, "additionalProperties": False} if is_typeddict(returned) else schema
