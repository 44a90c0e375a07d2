"""What an error of the database means: that something passes, or that the statement is at fault.

Exception classes don't tell. A server that may only be read raises InternalError, a statement that
took too long raises OperationalError, and what the driver raises outside of Django's wrapper is
neither. The SQLSTATE tells, and on SQLite the result code.

Sources: https://www.postgresql.org/docs/current/errcodes-appendix.html and
https://www.sqlite.org/rescode.html.
"""

import sqlite3

import psycopg
from django.db import Error, InterfaceError, OperationalError, connection

# Classes (two characters) and codes of PostgreSQL under which a connection can't be used now.
_AWAY = (
    "08",  # connection exceptions, those of poolers included
    "53",  # too many connections, disk full, out of memory
    "57P",  # shut down, crashed, starting up, idle session ended
    "58",  # errors of the system, such as I/O
    "25006",  # read-only: a standby, or a primary that became one
    "25P03",  # idle in a transaction for too long
    "25P04",  # a transaction that took too long
)
# Another transaction was in the way.
_CONTENTION = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock timeout
_STATEMENT_TIMEOUT = "57014"
_PREPARED_STATEMENTS = ("42P05", "26000")  # there is one of this name already, or none

_SQLITE_CONTENTION = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SQLITE_AWAY = (
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
)

# What the callers of `passes` catch: Django's errors, and the drivers' where nothing wraps them.
ERRORS = (Error, psycopg.Error, sqlite3.Error)
_TOO_MANY_PARAMETERS = "number of parameters must be between"  # libpq's words
_CONNECTION_ERRORS = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)


def passes(error: BaseException) -> bool:
    """Whether the same statement may succeed later: the database is away, or a row is locked.

    False for a statement that is itself at fault, and for one that took too long.
    """
    return is_away(error) or is_contention(error)


def is_away(error: BaseException) -> bool:
    """Whether the connection can't be used, now or any more. It must be closed."""
    driver_error = _driver_error(error)
    if isinstance(driver_error, sqlite3.Error):
        return _sqlite_code(driver_error) in _SQLITE_AWAY
    state = getattr(driver_error, "sqlstate", None)
    if state is not None:
        return state.startswith(_AWAY)
    return _has_lost_connection(error) or _is_out_of_step(driver_error)


def is_contention(error: BaseException) -> bool:
    """Whether another transaction was in the way: a lock, a deadlock or a serialization failure."""
    driver_error = _driver_error(error)
    if isinstance(driver_error, sqlite3.Error):
        return _sqlite_code(driver_error) in _SQLITE_CONTENTION
    return getattr(driver_error, "sqlstate", None) in _CONTENTION


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a row stayed locked for longer than `sql.wait_for_locks` allows."""
    return isinstance(_driver_error(error), psycopg.errors.LockNotAvailable)


def is_statement_timeout(error: BaseException) -> bool:
    """Whether the server ended the statement because it took too long (`statement_timeout`)."""
    return getattr(_driver_error(error), "sqlstate", None) == _STATEMENT_TIMEOUT


def explained(error: BaseException) -> str:
    """The message of an error, and what to do if a pooler is the cause."""
    state = getattr(_driver_error(error), "sqlstate", None)
    if "unsupported startup parameter" in str(error) or state in _PREPARED_STATEMENTS:
        return (
            f"{error} DATABASE_URL seems to lead to a pooler that gives a connection to each "
            "transaction. Set DATABASE_POOLED=1."
        )
    return str(error)


def drop_connection(error: BaseException) -> None:
    """Close this thread's connection if the error says that it can't be used."""
    if is_away(error) and not connection.in_atomic_block:
        connection.close()


def _driver_error(error: BaseException) -> BaseException:
    """The error of psycopg or sqlite3 that Django's error was raised from."""
    if isinstance(error, Error) and isinstance(error.__cause__, psycopg.Error | sqlite3.Error):
        return error.__cause__
    return error


def _sqlite_code(error: sqlite3.Error) -> int:
    """The primary result code; 0 for an error of the Python module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _has_lost_connection(error: BaseException) -> bool:
    """Judges an error without SQLSTATE: it comes from the driver, not from the server.

    The driver raises such errors for a server that doesn't answer, and for a statement that it
    can't send. Whether the connection is open tells nothing: Django may have opened a new one when
    the transaction ended.
    """
    return isinstance(error, _CONNECTION_ERRORS) and _TOO_MANY_PARAMETERS not in str(error)


def _is_out_of_step(error: BaseException) -> bool:
    """Whether the driver got an answer that isn't the statement's, an error without SQLSTATE.

    It happens when a pooler's server connection is cut: an error that nobody waited for is taken
    for the answer to the next statement.
    """
    return isinstance(error, psycopg.InternalError) or type(error) is psycopg.DatabaseError
