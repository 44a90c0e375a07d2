"""What the rules of validation work with: problems, and registered nodes. Pure."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice

from graphs.definition.types import EdgeDefinition, Json, JsonObject, NodeDefinition, Schema

MAX_MESSAGE = 300
MAX_LISTED = 20  # names in a message


@dataclass(frozen=True)
class Problem:
    """One mistake in a definition.

    `type` identifies the kind of mistake to programs, `message` explains it to people, and `path`
    is a JSON pointer into the definition. `registry` is true if the definition is sound in itself,
    but does not match the registered nodes or the graph's secrets.
    """

    type: str
    message: str
    path: str
    nodeId: str | None = None  # noqa: N815  (the name in the API's answers)
    edgeId: str | None = None  # noqa: N815
    registry: bool = False

    def as_json(self) -> JsonObject:
        """The problem as the API shows it."""
        return {key: value for key, value in asdict(self).items() if key != "registry"}


@dataclass(frozen=True)
class Kind:
    """What validation needs to know of a registered node. A schema is None if none is declared."""

    namespace: str
    inputs_schema: Schema | None
    outputs_schema: Schema | None
    secrets: tuple[str, ...] = ()


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


FindKind = Callable[[str, str], Kind | None]  # (namespace or "", name)


@dataclass(frozen=True)
class Parts:
    """The well-formed nodes and edges of a definition, each with its index, and their context.

    `inputs` and `settings` may have the wrong shape, which is reported elsewhere. `kinds` holds
    what each node is registered as. `secrets` are the names of the graph's secrets, or None if
    secrets are not to be checked.
    """

    nodes: list[tuple[int, NodeDefinition]]
    edges: list[tuple[int, EdgeDefinition]]
    inputs: Json
    settings: Json
    kinds: Mapping[str, Kind | None]
    secrets: Collection[str] | None

    @property
    def ids(self) -> list[str]:
        """The ids of the nodes in the order of the definition, each once."""
        return list(dict.fromkeys(node["id"] for _, node in self.nodes))

    @cached_property
    def store_keys(self) -> frozenset[str]:
        """The keys that the run's store always has."""
        store = object_at(self.settings, "store")
        required = store.get("required_keys")
        keys = required if isinstance(required, list) else []
        return frozenset([*filter(_is_text, keys), *object_at(store, "default_values")])


def object_at(value: Json, *path: str) -> JsonObject:
    """The JSON object at a path of member names; empty if there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def listed(names: Collection[str]) -> str:
    """The first names for a message, comma-separated, and how many others there are, or "none"."""
    text = ", ".join(islice(names, MAX_LISTED))[:MAX_MESSAGE] or "none"
    others = len(names) - MAX_LISTED
    return f"{text} and {others:,} others" if others > 0 else text
