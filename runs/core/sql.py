"""The few SQL words in which PostgreSQL and SQLite differ, so that each hot statement is written once.

Statements use `%s` parameters. `rows()` turns many values into a table within one statement; `run()` executes a statement, on
PostgreSQL prepared on the server. `runs.engine.claim`, `runs.engine.record` and `runs.engine.advance` are the ones to use it.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import psycopg
from django.db import connection, connections

Row = tuple[Any, ...]
# For `= 'QUEUED'` PostgreSQL takes the index of leased states, which seems small, instead of the states' ids, and reads all that an old snapshot keeps there.
_QUEUED = "IN ('QUEUED', '')"


@cache
def postgres() -> bool:
    return connection.vendor == "postgresql"


def now() -> str:
    """The database's clock when the statement came. (PostgreSQL can't use an index for a time that changes within a statement.)"""
    return "statement_timestamp()" if postgres() else "strftime('%%Y-%%m-%%d %%H:%%M:%%f','now')"


@cache
def later(seconds: str) -> str:
    """The database's clock plus an SQL number of seconds; NULL gives NULL."""
    if postgres():
        return f"statement_timestamp() + make_interval(secs => {seconds})"
    return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f','now', ({seconds}) || ' seconds')"


@cache
def rows(alias: str, **columns: str) -> str:
    """A table of parameters: names with their PostgreSQL types. Its values come from `values()`, in the same order."""
    names = ", ".join(columns)
    if postgres():
        arrays = ", ".join(f"%s::{kind.replace('jsonb', 'text')}[]" for kind in columns.values())
        if "jsonb" not in columns.values():
            return f"unnest({arrays}) AS {alias}({names})"
        cast = ", ".join(
            f"{name}::jsonb" if kind == "jsonb" else name for name, kind in columns.items()
        )
        return f"(SELECT {cast} FROM unnest({arrays}) AS u({names})) AS {alias}({names})"
    picked = ", ".join(
        f"json_extract(value, '$[{at}]') AS {name}" for at, name in enumerate(columns)
    )
    return f"(SELECT {picked} FROM json_each(%s)) AS {alias}"


def values(table: Sequence[Sequence[Any]]) -> list[Any]:
    """The parameters of `rows()` for these rows; there must be at least one."""
    if postgres():
        return [_array(column) for column in zip(*table, strict=True)]
    return [json.dumps(table, ensure_ascii=False, separators=(",", ":"))]


def _array(column: Iterable[Any]) -> str:
    """A PostgreSQL array literal; several times faster than the driver's own adaptation of lists."""
    return "{" + ",".join([_element(value) for value in column]) + "}"


def _element(value: Any) -> str:
    if type(value) is str:
        if "\\" in value or '"' in value:
            value = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{value}"'
    return "NULL" if value is None else str(value)


@cache
def among(column: str, kind: str) -> str:
    """`column` is one of a list of values; the parameter comes from `choices()`."""
    return (
        f"{column} = ANY(%s::{kind}[])"
        if postgres()
        else f"{column} IN (SELECT value FROM json_each(%s))"
    )


def choices(items: Iterable[Any]) -> Any:
    return list(items) if postgres() else json.dumps(list(items))


def lock(strength: str = "NO KEY UPDATE", of: str = "", skip: bool = False) -> str:
    """A row lock; SQLite's writers are alone anyway (BEGIN IMMEDIATE)."""
    return (
        f" FOR {strength}{f' OF {of}' if of else ''}{' SKIP LOCKED' if skip else ''}"
        if postgres()
        else ""
    )


def wait_for_locks(seconds: int) -> None:
    """In this transaction, fail rather than wait longer for a row that somebody else holds. (SQLite has no row locks.)"""
    if postgres():
        send(f"SET LOCAL lock_timeout = '{seconds}s'")


def is_lock_timeout(error: Exception) -> bool:
    return isinstance(error.__cause__, psycopg.errors.LockNotAvailable)


FIRST_MOVED = "EXISTS (SELECT 1 FROM b0)"  # a gate: the first statement of the batch changed a row


def statement(template: str, gate: str = "true", **parts: Any) -> str:
    """A statement from its template: {now}; {gate}; {queued}; {v} rows of these columns; {among} (column, type); anything else a time `later`.

    Each template is filled once per process and gate; a template always comes with the same parts.
    """
    if (template, gate) not in _statements:
        _statements[template, gate] = template.format(
            now=now(),
            gate=gate,
            queued=_QUEUED,
            **{name: _part(name, part) for name, part in parts.items()},
        )
    return _statements[template, gate]


_statements: dict[tuple[str, str], str] = {}


def _part(name: str, part: Any) -> str:
    if isinstance(part, dict):
        return rows(name, **part)
    return among(*part) if name == "among" else later(part)


def run(statement: str, params: Sequence[Any] = ()) -> list[Row]:
    """Execute a statement that returns rows, and return them. Database errors come as Django's."""
    db = connections["default"]
    if not postgres():
        with db.cursor() as cursor:
            return cursor.execute(statement, params).fetchall()
    with db.wrap_database_errors:
        return _execute(db, statement, params).fetchall()


def send(statement: str, params: Sequence[Any] = ()) -> None:
    """Execute a statement that returns no rows."""
    db = connections["default"]
    if not postgres():
        with db.cursor() as cursor:
            cursor.execute(statement, params)
        return
    with db.wrap_database_errors:
        _execute(db, statement, params)


def _execute(db: Any, statement: str, params: Sequence[Any]) -> psycopg.Cursor[Any]:
    db.ensure_connection()
    if db.queries_logged:
        db.queries_log.append({"sql": statement, "time": "0.000"})
    return psycopg.Cursor(db.connection).execute(statement, params, prepare=True)


def replan() -> None:
    """Let prepared statements be planned anew for tables that have grown since (PostgreSQL keeps a plan until it is told)."""
    if postgres():
        send("DISCARD PLANS")


class Statements:
    """Statements that touch different rows; PostgreSQL gets them as one, in one round trip. The first one may return rows."""

    def __init__(self) -> None:
        self._statements: list[tuple[str, Sequence[Any]]] = []
        self._answers = False

    def add(self, statement: str, params: Sequence[Any], answers: bool = False) -> None:
        """Add a statement; only the first may have an answer."""
        self._answers = self._answers or answers
        self._statements.append((statement, params))

    def flush(self) -> list[Row] | None:
        """Send what was added since the last flush; the rows of the first statement, if it was to answer."""
        statements, answers = self._statements, self._answers
        self._statements, self._answers = [], False
        if postgres() and len(statements) > 1:
            params = [each for _, group in statements for each in group]
            merged = _merged(tuple(statement for statement, _ in statements), answers)
            if answers:
                return run(merged, params)
            send(merged, params)
            return None
        found = run(*statements.pop(0)) if answers else None
        for statement, group in statements:
            send(statement, group)
        return found


@cache
def _merged(statements: tuple[str, ...], answers: bool) -> str:
    named = [f"b{at} AS ({statement})" for at, statement in enumerate(statements)]
    return (
        f"WITH {', '.join(named)} SELECT * FROM b0"
        if answers
        else f"WITH {', '.join(named[:-1])} {statements[-1]}"
    )


def stamp(value: datetime) -> str:
    """An aware datetime as the text that the database reads."""
    text = value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"{text}+00" if postgres() else text


def clock() -> datetime:
    """The database's time now: hosts may disagree with it and with each other. (SQLite's is that of this host.)"""
    found = moment(run(f"SELECT {now()}")[0][0])
    assert found is not None
    return found


def moment(value: Any) -> datetime | None:
    """A time as the database returned it, aware."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value).replace(tzinfo=UTC)


def loads(value: Any) -> Any:
    """JSON that the database returned as text."""
    return json.loads(value) if isinstance(value, str) else value


def key(value: Any) -> str:
    """A UUID as the 32 digits by which the hot statements pass it."""
    return value if isinstance(value, str) else value.hex
