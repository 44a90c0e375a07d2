"""What the hot statements share: running them, passing many rows, and the words in which
PostgreSQL and SQLite differ.

A hot statement is a function decorated with `@statement`. Its body is the whole SQL text, so it
can be read, printed and given to EXPLAIN; its docstring says what it does and why it is fast.
The few words that differ between the databases are calls within the text: `now()`, `later()`,
`rows()`, `among()`, `lock()`. Statements that differ in more than words are written once for
each database.

Two things that all of them have in common:

- A state that a worker holds is written `status IN ('QUEUED', '')`. For `= 'QUEUED'` PostgreSQL
  prefers the index of leased states, because it seems small, to the states' ids, and then reads
  every index entry that an old snapshot keeps alive there.
- Parameters are `%s`. Many rows are one parameter (SQLite) or one for each column (PostgreSQL):
  the table comes from `rows()` and its parameters from `values()`.
- SQLite takes the rows from JSON, which it parses once for each column. That is slow, so up to
  128 rows become VALUES with a parameter for each cell when the statement is sent.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache, wraps
from itertools import chain, count
from typing import Any, ParamSpec, cast

import psycopg
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from graphs.definition.types import Json
from graphs.models import clock as database_clock
from statemanager.conf import conf

Row = tuple[Any, ...]
Params = Sequence[Any]
P = ParamSpec("P")

# Conditions under which a statement of a batch changes anything (`Statements`).
ALWAYS = "true"
FIRST_CHANGED_A_ROW = "EXISTS (SELECT 1 FROM b0)"


@cache
def postgres() -> bool:
    return connection.vendor == "postgresql"


# --- writing statements ------------------------------------------------------------------------


def statement(build: Callable[P, str]) -> Callable[P, str]:
    """Decorate a function that returns the text of a statement.

    The text is built once per process for each set of arguments, on one line.
    """

    @wraps(build)
    def text(*args: P.args, **kwargs: P.kwargs) -> str:
        return " ".join(build(*args, **kwargs).split())

    return cast(Callable[P, str], cache(text))


def now() -> str:
    """The database's clock when the statement arrived.

    PostgreSQL can't use an index for a time that changes within a statement (`clock_timestamp()`).
    SQLite compares times as texts and has milliseconds, so these get the six digits of others.
    """
    if postgres():
        return "statement_timestamp()"
    return "(strftime('%%Y-%%m-%%d %%H:%%M:%%f','now') || '000')"


def later(seconds: str) -> str:
    """The database's clock plus an SQL expression in seconds; NULL for NULL."""
    if postgres():
        return f"statement_timestamp() + make_interval(secs => {seconds})"
    return f"(strftime('%%Y-%%m-%%d %%H:%%M:%%f','now', ({seconds}) || ' seconds') || '000')"


def earlier(moment: str, seconds: str) -> str:
    """An SQL expression of a time, minus an SQL expression in seconds."""
    if postgres():
        return f"{moment} - make_interval(secs => {seconds})"
    return f"(strftime('%%Y-%%m-%%d %%H:%%M:%%f', {moment}, (-({seconds})) || ' seconds') || '000')"


def rows(alias: str, **columns: str) -> str:
    """A table of parameters, given its column names and their PostgreSQL types.

    The parameters come from `values()`, with the columns in the same order.
    """
    if postgres():
        return _unnested(alias, columns)
    extracted = ", ".join(
        f"json_extract(value, '$[{at}]') AS {name}" for at, name in enumerate(columns)
    )
    return f"(SELECT {extracted} FROM json_each(%s)) AS {alias}"


def _unnested(alias: str, columns: dict[str, str]) -> str:
    """JSON comes as an array of texts, whose literal is much cheaper to write and to read."""
    names = ", ".join(columns)
    arrays = ", ".join(f"%s::{kind.replace('jsonb', 'text')}[]" for kind in columns.values())
    if "jsonb" not in columns.values():
        return f"unnest({arrays}) AS {alias}({names})"
    selected = ", ".join(
        f"{name}::jsonb" if kind == "jsonb" else name for name, kind in columns.items()
    )
    return f"(SELECT {selected} FROM unnest({arrays}) AS u({names})) AS {alias}"


def values(table: Sequence[Sequence[object]]) -> list[object]:
    """The parameters of `rows()` for these rows. There must be at least one row."""
    if postgres():
        return [_array(column) for column in zip(*table, strict=True)]
    return [_Rows(table)]


class _Rows(list[Sequence[object]]):
    """The rows of a table. Given to SQLite as a parameter, they are JSON."""

    def json(self) -> str:
        return json.dumps(self, ensure_ascii=False, separators=(",", ":"))


sqlite3.register_adapter(_Rows, _Rows.json)


_PLAIN = {int, float, bool}


def _array(column: Sequence[object]) -> str:
    """A PostgreSQL array literal, made several times faster than the driver adapts a list."""
    kinds = set(map(type, column))
    if kinds == {str}:
        return '{"' + '","'.join(_escaped(column)) + '"}'
    if kinds == {type(None)}:
        return "{" + ",".join(["NULL"] * len(column)) + "}"
    if kinds <= _PLAIN:
        return "{" + ",".join(map(str, column)) + "}"
    return "{" + ",".join([_element(value) for value in column]) + "}"


def _escaped(texts: Sequence[Any]) -> Sequence[str]:
    joined = "".join(texts)
    if '"' in joined or "\\" in joined:
        return [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return texts


def _element(value: object) -> str:
    if isinstance(value, str):
        return '"' + _escaped([value])[0] + '"'
    return "NULL" if value is None else str(value)


def among(column: str, kind: str) -> str:
    """`column` is one of a list of values of this type; the parameter comes from `choices()`."""
    if postgres():
        return f"{column} = ANY(%s::{kind}[])"
    return f"{column} IN (SELECT value FROM json_each(%s))"


def choices(items: Iterable[object]) -> list[object] | str:
    return list(items) if postgres() else json.dumps(list(items))


def lock(strength: str = "NO KEY UPDATE", skip_locked: bool = False) -> str:
    """A row lock at the end of a SELECT. SQLite needs none: BEGIN IMMEDIATE admits one writer."""
    if not postgres():
        return ""
    return f" FOR {strength}{' SKIP LOCKED' if skip_locked else ''}"


# --- running statements ------------------------------------------------------------------------


def run(statement: str, params: Params = ()) -> list[Row]:
    """Execute a statement that returns rows, and return them. Raises Django's database errors.

    On PostgreSQL the statement is prepared on the server, unless a pooler is between.
    """
    db = connections["default"]
    with db.wrap_database_errors:
        return _execute(db, statement, params).fetchall()


def send(statement: str, params: Params = ()) -> None:
    """Execute a statement that returns no rows."""
    db = connections["default"]
    with db.wrap_database_errors:
        _execute(db, statement, params)


def _execute(db: BaseDatabaseWrapper, statement: str, params: Params) -> Any:
    """The cursor of the driver, whose errors the caller translates."""
    db.ensure_connection()
    if db.queries_logged:
        db.queries_log.append({"sql": statement, "time": "0.000"})
    if not postgres():
        return db.connection.execute(*_for_sqlite(statement, params))
    prepare = not conf.DATABASE_POOLED
    return psycopg.RawCursor(db.connection).execute(_numbered(statement), params, prepare=prepare)


@lru_cache(maxsize=1000)
def _numbered(statement: str) -> bytes:
    """The statement with PostgreSQL's own placeholders.

    The driver would parse long statements, and those with many parameters, at each call.
    """
    number = count(1)
    return _placed(statement, lambda: f"${next(number)}").encode()


def _placed(statement: str, placeholder: Callable[[], str]) -> str:
    """The statement with other placeholders."""
    return re.sub("%[s%]", lambda found: placeholder() if found[0] == "%s" else "%", statement)


# Each number of rows makes another statement to compile, so it is rounded up to a power of two.
_MAX_ROWS = 128
_TABLE = re.compile(
    r"\(SELECT (json_extract\(value, [^)]*\) AS \w+(?:, )?)+ FROM json_each\(%s\)\)"
)


def _for_sqlite(statement: str, params: Params) -> tuple[str, list[object]]:
    """The statement and its parameters, with parameters of their own for a few rows."""
    sizes: list[int] = []
    values: list[object] = []
    for value in params:
        if isinstance(value, _Rows):
            size = 1 << (len(value) - 1).bit_length()
            sizes.append(size if size <= _MAX_ROWS else 0)
        if isinstance(value, _Rows) and sizes[-1]:
            values += chain.from_iterable(value)
            values += [None] * ((size - len(value)) * len(value[0]))
        else:
            values.append(value)
    return _with_values(statement, tuple(sizes)), values


@lru_cache(maxsize=1000)
def _with_values(statement: str, sizes: tuple[int, ...]) -> str:
    """The statement with VALUES for each table of rows that has a size.

    The first column of a row is never NULL, unlike that of the rows that fill the table up.
    """
    left = iter(sizes)

    def table(found: re.Match[str]) -> str:
        size = next(left)
        if not size:
            return found[0]
        names = re.findall(r"AS (\w+)", found[0])
        selected = ", ".join(f"column{at} AS {name}" for at, name in enumerate(names, start=1))
        row = f"({', '.join(['%s'] * len(names))})"
        rows = ", ".join([row] * size)
        return f"(SELECT {selected} FROM (VALUES {rows}) WHERE column1 IS NOT NULL)"

    return _placed(_TABLE.sub(table, statement), lambda: "?")


def reserve_id(table: str) -> int:
    """An id of the table that no other row gets. The table must have had a row."""
    if postgres():
        return int(run("SELECT nextval(pg_get_serial_sequence(%s, 'id'))", [table])[0][0])
    statement = "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = %s RETURNING seq"
    return int(run(statement, [table])[0][0])


def replan() -> None:
    """Let PostgreSQL plan prepared statements again, for tables that have grown since.

    It keeps a generic plan until it is told to discard it.
    """
    if postgres() and not conf.DATABASE_POOLED:
        send("DISCARD PLANS")


class Statements:
    """Statements that change different rows. PostgreSQL gets them as one, in one round trip.

    On PostgreSQL they become `WITH b0 AS (...), b1 AS (...) ...`, so a later one can depend on the
    rows that the first one returned (`FIRST_CHANGED_A_ROW`), but sees none of its changes.
    """

    def __init__(self) -> None:
        self._statements: list[tuple[str, Params]] = []
        self._returns_rows = False

    def add(self, statement: str, params: Params, returns_rows: bool = False) -> None:
        """Add a statement. Only the first one may return rows."""
        self._returns_rows = self._returns_rows or returns_rows
        self._statements.append((statement, params))

    def flush(self) -> list[Row] | None:
        """Send the statements added since the last flush.

        Returns the rows of the first statement, or None if it doesn't return rows.
        """
        statements = self._statements
        returns_rows = self._returns_rows
        self._statements = []
        self._returns_rows = False

        if postgres() and len(statements) > 1:
            return _run_merged(statements, returns_rows)

        returned = run(*statements.pop(0)) if returns_rows else None
        for text, params in statements:
            send(text, params)
        return returned


def _run_merged(statements: Collection[tuple[str, Params]], returns_rows: bool) -> list[Row] | None:
    merged = _merged(tuple(text for text, _ in statements), returns_rows)
    params = [value for _, values in statements for value in values]
    if returns_rows:
        return run(merged, params)
    send(merged, params)
    return None


@cache
def _merged(statements: tuple[str, ...], returns_rows: bool) -> str:
    named = [f"b{at} AS ({text})" for at, text in enumerate(statements)]
    if returns_rows:
        return f"WITH {', '.join(named)} SELECT * FROM b0"
    return f"WITH {', '.join(named[:-1])} {statements[-1]}"


# --- lock timeouts -----------------------------------------------------------------------------

# For how long a process waits for a locked row: one that does everything in one thread, and one
# that answers a request.
ENGINE_LOCK_SECONDS = 1.0
WEB_LOCK_SECONDS = 10.0


def wait_for_locks(seconds: float) -> None:
    """In this transaction, fail rather than wait longer than this for a locked row.

    SQLite has no row locks.
    """
    if postgres():
        send(f"SET LOCAL lock_timeout = {round(1000 * seconds)}")


def limit_lock_waits(seconds: float) -> None:
    """In this process, from now on, fail rather than wait longer than this for a locked row.

    For processes that do everything in one thread: whoever locks a row must not stop them. Such an
    error is a lock timeout (`db_errors`). Behind a pooler the limit is one of the role's:
    `ALTER ROLE … SET lock_timeout`.
    """
    if conf.DATABASE_POOLED:
        return

    def limit(connection: BaseDatabaseWrapper, **_: object) -> None:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, false)", [str(milliseconds)])

    milliseconds = round(1000 * seconds)
    connection_created.connect(limit, weak=False, dispatch_uid="limit_lock_waits")
    connections["default"].close()


# --- values ------------------------------------------------------------------------------------


def stamp(value: datetime) -> str:
    """An aware datetime as the text that the database reads."""
    text = value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"{text}+00" if postgres() else text


def clock() -> datetime:
    """The database's time. Hosts may disagree with it and with each other."""
    return database_clock.now()


def moment(value: str | datetime | None) -> datetime | None:
    """A time that the database returned, as an aware datetime."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value).replace(tzinfo=UTC)


def loads(value: Json) -> Json:
    """A JSON value that the database returned as text; None for NULL."""
    return json.loads(value) if isinstance(value, str) else value


def key(value: Any) -> str:
    """A UUID as the 32 digits that the hot statements pass."""
    return value if isinstance(value, str) else value.hex
