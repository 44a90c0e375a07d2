"""The few SQL words in which PostgreSQL and SQLite differ, so that each hot statement is written once.

Statements use `%s` parameters. `rows()` turns many values into a table within one statement; `run()` executes a statement, on
PostgreSQL prepared on the server. `runs.claiming`, `runs.finishing` and `runs.advancing` are the ones to use it.
"""

import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import psycopg
from django.db import connection
from django.utils import timezone
from django.utils.dateparse import parse_datetime

Row = tuple[Any, ...]


def postgres() -> bool:
    return connection.vendor == "postgresql"


def now() -> str:
    """The database's clock, at this moment."""
    return "clock_timestamp()" if postgres() else "strftime('%%Y-%%m-%%d %%H:%%M:%%f','now')"


def later(seconds: str) -> str:
    """The database's clock plus an SQL number of seconds; NULL gives NULL."""
    if postgres():
        return f"clock_timestamp() + make_interval(secs => {seconds})"
    return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f','now', ({seconds}) || ' seconds')"


def rows(alias: str, **columns: str) -> str:
    """A table of parameters: names with their PostgreSQL types. Its values come from `values()`, in the same order."""
    names = ", ".join(columns)
    if postgres():
        arrays = ", ".join(f"%s::{kind.replace('jsonb', 'text')}[]" for kind in columns.values())
        if "jsonb" not in columns.values():
            return f"unnest({arrays}) AS {alias}({names})"
        cast = ", ".join(f"{name}::jsonb" if kind == "jsonb" else name for name, kind in columns.items())
        return f"(SELECT {cast} FROM unnest({arrays}) AS u({names})) AS {alias}({names})"
    picked = ", ".join(f"json_extract(value, '$[{at}]') AS {name}" for at, name in enumerate(columns))
    return f"(SELECT {picked} FROM json_each(%s)) AS {alias}"


def values(table: Sequence[Sequence[Any]]) -> list[Any]:
    """The parameters of `rows()` for these rows; there must be at least one."""
    if postgres():
        return [list(column) for column in zip(*table, strict=True)]
    return [json.dumps(table, ensure_ascii=False, separators=(",", ":"))]


def among(column: str, kind: str) -> str:
    """`column` is one of a list of values; the parameter comes from `choices()`."""
    return f"{column} = ANY(%s::{kind}[])" if postgres() else f"{column} IN (SELECT value FROM json_each(%s))"


def choices(items: Iterable[Any]) -> Any:
    return list(items) if postgres() else json.dumps(list(items))


def lock(strength: str = "NO KEY UPDATE", of: str = "", skip: bool = False) -> str:
    """A row lock; SQLite's writers are alone anyway (BEGIN IMMEDIATE)."""
    return f" FOR {strength}{f' OF {of}' if of else ''}{' SKIP LOCKED' if skip else ''}" if postgres() else ""


def run(statement: str, params: Sequence[Any] = ()) -> list[Row]:
    """Execute and return the rows, if it has any. Database errors come as Django's."""
    if not postgres():
        with connection.cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchall() if cursor.description else []
    connection.ensure_connection()
    started = monotonic()
    with connection.wrap_database_errors:
        raw = psycopg.Cursor(connection.connection).execute(statement, params, prepare=True)
        found = raw.fetchall() if raw.description else []
    if connection.queries_logged:
        connection.queries_log.append({"sql": statement, "time": f"{monotonic() - started:.3f}"})
    return found


def moment(value: Any) -> datetime | None:
    """A time that the database returned, as an aware datetime."""
    if isinstance(value, str):
        parsed = parse_datetime(value)
        return timezone.make_aware(parsed) if parsed and timezone.is_naive(parsed) else parsed
    return value


def stamp(value: datetime) -> str:
    """An aware datetime as the text that the database reads."""
    text = value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"{text}+00" if postgres() else text


def loads(value: Any) -> Any:
    """JSON that the database returned as text."""
    return json.loads(value) if isinstance(value, str) else value


def key(value: Any) -> str:
    """A UUID as the 32 digits by which the hot statements pass it."""
    return value if isinstance(value, str) else value.hex


def uuid7() -> str:
    """A new time-ordered UUID (RFC 9562, version 7) as 32 hex digits."""
    millis = int(datetime.now().timestamp() * 1000)
    chance = uuid.uuid4().int
    number = (millis & (2**48 - 1)) << 80 | 0x7 << 76 | (chance >> 68 & 0xFFF) << 64 | 0b10 << 62 | chance & (2**62 - 1)
    return f"{number:032x}"


def dashed(key: str) -> str:
    """32 hex digits as a UUID is usually written."""
    return str(uuid.UUID(key))
