"""The bodies of `/v0` for nodes and namespaces. See `graphs.api.v0.schemas`."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from graphs.api.v0.schemas import Name, Stamp, StrictModel
from graphs.definition.json_schema import SchemaValidator
from graphs.definition.types import JsonObject

MAX_NODES_AT_ONCE = 1000


def _json_schema(schema: JsonObject) -> JsonObject:
    try:
        SchemaValidator(schema)
    except ValueError as error:
        raise ValueError(f"it is not a JSON Schema: {error}"[:300]) from None
    return schema


Schema = Annotated[JsonObject, AfterValidator(_json_schema)]


class NodeShape(StrictModel):
    name: Name
    inputs_schema: Schema
    outputs_schema: Schema
    secrets: list[Name] = Field(max_length=100)


class RegisterBody(StrictModel):
    runtime_name: Annotated[str, StringConstraints(max_length=200)]
    nodes: list[NodeShape] = Field(max_length=MAX_NODES_AT_ONCE)


class RegisteredAnswer(BaseModel):
    runtime_name: str
    registered_nodes: list[NodeShape]


class RegisteredNodeShape(NodeShape):
    model_config = ConfigDict(populate_by_name=True)
    id: str = Field(alias="_id")
    namespace: str
    runtime_name: str
    runtime_namespace: str
    created_at: Stamp
    updated_at: Stamp


class NodesAnswer(BaseModel):
    namespace: str
    count: int
    nodes: list[RegisteredNodeShape]
    next: str | None


class NamespacesAnswer(BaseModel):
    namespaces: list[str]
    count: int
    next: str | None
