"""Rules of validation about what nodes work on: registered nodes, secrets and inputs. Pure."""

from collections.abc import Iterator, Mapping

from graphs.definition import concurrency, expressions, redaction, references, value_paths
from graphs.definition.json_schema import SchemaValidator, validator_of
from graphs.definition.problems import (
    MAX_MESSAGE,
    Kind,
    Parts,
    Problem,
    listed,
    object_at,
)
from graphs.definition.references import Reference
from graphs.definition.topology import Topology
from graphs.definition.types import Json, JsonObject, NodeDefinition


def kind_problems(parts: Parts) -> Iterator[Problem]:
    """Nodes whose kind is not registered."""
    for at, node in parts.nodes:
        if parts.kinds[node["id"]] is None:
            namespace = node.get("namespace")
            where = f"the namespace {namespace!r}" if namespace else "this namespace"
            message = (
                f"no node {node['kind']!r} is registered in {where};"
                " register it, or choose another kind"
            )
            yield Problem("unknown_node", message, f"/nodes/{at}/kind", node["id"], registry=True)


def secret_problems(parts: Parts) -> Iterator[Problem]:
    """Secrets that nodes ask for and the graph does not have."""
    if parts.secrets is None:
        return
    for at, node in parts.nodes:
        kind = parts.kinds[node["id"]]
        for name in kind.secrets if kind else ():
            if name not in parts.secrets:
                message = f"{node['kind']} asks for the secret {name!r}; add it to the graph"
                path = f"/nodes/{at}/kind"
                yield Problem("missing_secret", message, path, node["id"], registry=True)


def schema_problems(parts: Parts) -> Iterator[Problem]:
    """Whether `inputs` of the definition is a JSON Schema."""
    if not isinstance(parts.inputs, dict):
        return
    try:
        SchemaValidator(parts.inputs)
    except ValueError as error:
        message = f"`inputs` is not a valid JSON Schema: {error}"
        yield Problem("invalid_config", message[:MAX_MESSAGE], "/inputs")


def indexed_problems(parts: Parts) -> Iterator[Problem]:
    """Paths of `indexed_inputs` that can't be read, and those that are there twice."""
    paths = parts.settings.get("indexed_inputs") if isinstance(parts.settings, dict) else None
    seen: set[value_paths.Path] = set()
    for at, text in enumerate(paths if isinstance(paths, list) else ()):
        if not isinstance(text, str):
            continue  # reported with the shape
        place = f"/settings/indexed_inputs/{at}"
        try:
            path = value_paths.parse(text)
        except ValueError as error:
            yield Problem("invalid_config", f"{text!r} is no indexed input: {error}", place)
            continue
        if path in seen:
            message = f"the indexed input {text!r} is there twice; remove one of them"
            yield Problem("invalid_config", message, place)
        seen.add(path)


def concurrency_problems(parts: Parts) -> Iterator[Problem]:
    """A key of the concurrency limit that is not an expression."""
    key = object_at(parts.settings, "concurrency").get("key")
    if not isinstance(key, str) or not key:
        return
    place = "/settings/concurrency/key"
    try:
        unknown = concurrency.unknown_names(key)
    except expressions.BadExpression as error:
        message = f"the key of the concurrency limit is not a valid expression: {error}"
        yield Problem("invalid_config", message[:MAX_MESSAGE], place)
        return
    if unknown:
        message = (
            f"the key of the concurrency limit knows inputs and labels, not {', '.join(unknown)}"
        )
        yield Problem("unknown_reference", message[:MAX_MESSAGE], place)


def input_problems(
    parts: Parts, at: int, node: NodeDefinition, shape: Topology | None
) -> Iterator[Problem]:
    """What is wrong with the inputs of one node. `shape` is None if the edges form a cycle."""
    inputs = (node.get("data") or {}).get("inputs") or {}
    path = f"/nodes/{at}/data/inputs"
    for key, value in inputs.items():
        yield from _reference_problems(parts, node["id"], value, f"{path}/{key}", shape)
    if kind := parts.kinds[node["id"]]:
        is_root = bool(shape and node["id"] in shape.roots)
        from_run = set(object_at(parts.inputs, "properties")) if is_root else set()
        yield from _schema_problems(node, inputs, kind, path, from_run)


def _reference_problems(
    parts: Parts, name: str, value: Json, path: str, shape: Topology | None
) -> Iterator[Problem]:
    try:
        used = list(references.find(value))
    except references.BadReference as error:
        yield Problem("invalid_config", str(error), path, name)
        return
    for reference in used:
        if message := _unknown_reference(parts, reference, name, shape):
            yield Problem("unknown_reference", message, path, name)
        elif message := _unknown_output(parts, reference):
            yield Problem("unknown_reference", message, path, name, registry=True)


def _unknown_reference(
    parts: Parts, reference: Reference, name: str, shape: Topology | None
) -> str | None:
    """What is wrong with a reference in the inputs of a node, as far as the graph can tell."""
    if reference.source == "store":
        return _unknown_store_key(parts, reference.path[0])
    if reference.source == "run":
        return undeclared_input(parts.inputs, reference) if is_closed(parts.inputs) else None
    if reference.node not in parts.kinds:
        return f"{reference} refers to {reference.node!r}, which is not a node of this graph"
    if (
        shape
        and reference.node not in shape.ancestors[name]
        and (reference.node != shape.dominator[name])
    ):
        return (
            f"{reference} is not available here, because no path leads from {reference.node!r}"
            " to this node; connect them, or choose another reference"
        )
    return None


def _unknown_store_key(parts: Parts, key: str) -> str | None:
    if key in parts.store_keys:
        return None
    return f"the store has no key {key!r}; make it a required key, or give it a default value"


def _unknown_output(parts: Parts, reference: Reference) -> str | None:
    """What is wrong with a reference to an output that the registered node does not declare."""
    kind = parts.kinds.get(reference.node) if reference.source == "node" else None
    schema = (kind.outputs_schema if kind else None) or {}
    outputs = schema.get("properties")
    name = reference.path[0]
    if outputs is None or name in outputs or schema.get("additionalProperties", True):
        return None
    return f"{reference.node!r} has no output {name!r}; available outputs: {listed(outputs)}"


def _schema_problems(
    node: NodeDefinition, inputs: JsonObject, kind: Kind, path: str, from_run: set[str]
) -> Iterator[Problem]:
    """Inputs that do not fit the schema of the registered node.

    Only values without placeholders are checked; what a placeholder becomes is known only in a
    run. `from_run` are the inputs that the node takes from the run if it sets none.
    """
    if not kind.inputs_schema:
        return
    # Missing inputs are reported one by one below, with messages of their own.
    partial = {
        key: value
        for key, value in kind.inputs_schema.items()
        if key not in ("required", "minProperties")
    }
    try:
        validator = validator_of(partial)
    except ValueError as error:
        message = f"{node['kind']} is registered with inputs that are no JSON Schema: {error}"
        message = message[:MAX_MESSAGE]
        yield Problem("invalid_config", message, path, node["id"], registry=True)
        return
    for name in kind.inputs_schema.get("required") or []:
        if name not in inputs and name not in from_run:
            message = f"{node['kind']} needs the input {name!r}; enter a value or a reference"
            yield Problem("missing_field", message, f"{path}/{name}", node["id"], registry=True)
    for name, value in inputs.items():
        yield from _value_problems(node, name, value, kind.inputs_schema, validator, path)


def _value_problems(
    node: NodeDefinition,
    name: str,
    value: Json,
    schema: Mapping[str, Json],
    validator: SchemaValidator,
    path: str,
) -> Iterator[Problem]:
    """What is wrong with one input, judged by the schema of its node's inputs."""
    properties = schema.get("properties") or {}
    path = f"{path}/{name}"
    if name not in properties:
        if schema.get("additionalProperties") is False:
            message = (
                f"{node['kind']} has no input {name!r}; available inputs: {listed(properties)}"
            )
            yield Problem("invalid_config", message, path, node["id"], registry=True)
        return
    if _has_placeholder(value):
        return
    yield from _expression_problems(node["id"], name, properties[name], value, path)
    for error in validator.iter_errors({name: value}):
        said = (
            "it does not fit its schema" if redaction.holds_secret(name, value) else error.message
        )
        message = f"{name}: {said}"[:MAX_MESSAGE]
        yield Problem("type_mismatch", message, path, node["id"], registry=True)


def _expression_problems(
    node: str, name: str, schema: Json, value: Json, path: str
) -> Iterator[Problem]:
    """Texts that are not expressions although the schema's format is "cel"."""
    for text_path, text in _expressions_in(schema, value, path).items():
        if not isinstance(text, str) or not text:
            continue
        try:
            expressions.compiled(text)
        except expressions.BadExpression as error:
            message = f"{name}: {text[:80]!r} is not a valid expression: {error}"
            message = message[:MAX_MESSAGE]
            yield Problem("invalid_config", message, text_path, node, registry=True)


def _expressions_in(schema: Json, value: Json, path: str) -> JsonObject:
    """The values that must be expressions by their paths: the value itself, or its members."""
    if not isinstance(schema, dict):
        return {}
    members = object_at(schema, "additionalProperties")
    if members.get("format") == "cel" and isinstance(value, dict):
        return {f"{path}/{key}": member for key, member in value.items()}
    return {path: value} if schema.get("format") == "cel" else {}


def is_closed(inputs: Json) -> bool:
    """Whether runs of a graph with this `inputs` schema accept declared inputs only."""
    return isinstance(inputs, dict) and inputs.get("additionalProperties") is False


def undeclared_input(inputs: Json, reference: Reference) -> str | None:
    """What is wrong with a reference to an input of the run that the graph does not declare.

    None if the graph declares it, or declares no inputs at all and does not refuse others.
    """
    names = object_at(inputs, "properties")
    name = reference.path[0]
    if name in names or object_at(inputs).get("patternProperties"):
        return None
    if not names and not is_closed(inputs):
        return None
    return f"the graph declares no input {name!r}; available inputs: {listed(names)}"


def _has_placeholder(value: Json) -> bool:
    try:
        return any(True for _ in references.find(value))
    except references.BadReference:
        return True
