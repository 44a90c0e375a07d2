"""One document of Exosphere's `State` collection, validated."""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Literal

from django.utils import timezone
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from graphs.definition import errors, names, payloads
from graphs.definition.types import Json, JsonObject
from runs.core import statuses

# Our statuses by those of Exosphere, which had two more.
STATUSES = {status: status for status in statuses.STATE_STATUSES} | {
    "EXECUTED": statuses.SUCCESS,
    "NEXT_CREATED": statuses.SUCCESS,
}


def _to_uuid(value: Json) -> uuid.UUID:
    """Read an ObjectId (24 hexadecimal digits, plain or as extended JSON) or a UUID."""
    text = value.get("$oid") if isinstance(value, dict) else value
    if not isinstance(text, str) or len(text) not in (24, 32, 36):
        raise ValueError("this is not an id")
    return uuid.UUID(f"{'0' * 8}{text}" if len(text) == 24 else text)


def _to_time(value: Json) -> datetime:
    """Read ISO 8601 or milliseconds, plain or as extended JSON.

    A time without a zone is UTC. No time at all means now.
    """
    if isinstance(value, dict):
        value = value.get("$date")
    if isinstance(value, dict):
        value = value.get("$numberLong")
    if value is None:
        return timezone.now()
    try:
        if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
            return datetime.fromtimestamp(int(value) / 1000, UTC)
        moment = datetime.fromisoformat(value)
        has_zone = moment.tzinfo is not None
        return moment.astimezone(UTC) if has_zone else moment.replace(tzinfo=UTC)
    except (OverflowError, OSError, TypeError):
        raise ValueError("this is not a time") from None


def _check_name(kind: str) -> AfterValidator:
    def check(value: str) -> str:
        try:
            return names.checked(kind, value)
        except errors.Malformed as error:
            raise ValueError(str(error)) from None

    return AfterValidator(check)


def _check_storable(value: Json) -> Json:
    payloads.dump(value)
    return value


Id = Annotated[uuid.UUID, BeforeValidator(_to_uuid)]
Time = Annotated[datetime, BeforeValidator(_to_time)]
Payload = Annotated[JsonObject | None, AfterValidator(_check_storable)]
Text = Annotated[
    str, StringConstraints(min_length=1, max_length=200), AfterValidator(_check_storable)
]


class ExosphereRow(BaseModel):
    """A state as Exosphere stored it."""

    id: Id = Field(alias="_id")
    namespace_name: Annotated[str, _check_name("namespace")]
    graph_name: Annotated[str, _check_name("graph")]
    run_id: Annotated[str, _check_name("run id")] | None = None
    identifier: Text
    node_name: Text
    status: Literal[tuple(STATUSES)]  # type: ignore[valid-type]
    inputs: Payload = None
    outputs: Payload = None
    data: Payload = None
    error: str | None = None
    parents: dict[str, Id] | None = None
    retry_count: int = Field(default=0, ge=0, lt=2**31)
    created_at: Time = Field(default_factory=timezone.now)
    updated_at: Time = Field(default_factory=timezone.now)

    @field_validator("run_id", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Json) -> Json:
        return value or None

    @field_validator("retry_count", mode="before")
    @classmethod
    def _none_is_zero(cls, value: Json) -> Json:
        return value or 0

    @model_validator(mode="after")
    def _is_not_its_own_parent(self) -> "ExosphereRow":
        if self.id in (self.parents or {}).values():
            raise ValueError("a state can't be among its own parents")
        return self
