"""Storing the log lines of runs, and keeping each log within its limit."""

from collections.abc import Iterable, Sequence

from runs.core import sql
from runs.engine.counters import RunCounters
from runs.engine.types import Claimed, Line

LINES_PER_RUN = 20_000


@sql.statement
def insert_statement(gate: str = sql.ALWAYS, run: str = "v.run") -> str:
    """Insert the log lines of a batch, in their order. `run` is as for new states."""
    lines = sql.rows(
        "v",
        run="bigint",
        state="uuid",
        attempt="int",
        identifier="text",
        level="text",
        message="text",
        at="timestamptz",
    )
    return f"""
        INSERT INTO statemanager_runs_logline (
            run_id, state, attempt, identifier, level, message, created_at
        )
        SELECT {run}, v.state, v.attempt, v.identifier, v.level, v.message, v.at
        FROM {lines}
        WHERE {gate}
    """


@sql.statement
def _drop_statement() -> str:
    """Delete the oldest log lines of a run, found by the index of a run's lines."""
    return """
        DELETE FROM statemanager_runs_logline WHERE id IN (
            SELECT id FROM statemanager_runs_logline WHERE run_id = %s ORDER BY id LIMIT %s
        )
    """


def rows_of(lines: Iterable[tuple[Claimed, Line]]) -> list[list[object]]:
    """The rows of lines that states wrote: (run, state, attempt, identifier, level, text, time)."""
    return [_row(state, line) for state, line in lines]


def _row(state: Claimed, line: Line) -> list[object]:
    at, level, message = line
    attempt = state.attempt or 0
    return [state.run.pk, state.id, attempt, state.identifier, level, message, sql.stamp(at)]


def insert(
    rows: Sequence[Sequence[object]], statements: sql.Statements, gate: str = sql.ALWAYS
) -> None:
    """Add a statement to the batch that stores these lines, given as `rows_of` makes them."""
    if rows:
        statements.add(insert_statement(gate), sql.values(rows))


def drop_oldest(run_counters: RunCounters, statements: sql.Statements) -> None:
    """Keep the log of a run within its limit. The caller stores the counters afterwards.

    A log may exceed the limit by a tenth, so that lines are rarely deleted.
    """
    if run_counters.log_count > LINES_PER_RUN * 1.1:
        surplus = run_counters.log_count - LINES_PER_RUN
        statements.add(_drop_statement(), [run_counters.pk, surplus])
        run_counters.log_count = LINES_PER_RUN
