"""The statements that insert runs.

On PostgreSQL one statement starts a run: the run, its root states, its first log line, its audit
entry and the hint are stored in one round trip, which is a transaction of its own. Elsewhere a
start is a transaction of several statements (`runs.engine.start`).

Many runs are inserted by one statement on both databases (`runs.engine.start_many`).
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection
from django.db.models import DateTimeField, Field, JSONField, Model

from graphs.definition.types import Json
from runs.core import node_counts, sql
from runs.core.node_counts import NodeCountsField
from runs.engine import log_lines, store, wakeup
from runs.models import AuditEntry, Run

_RUN_FIELDS = [field for field in Run._meta.local_concrete_fields if not field.primary_key]
_AUDIT_FIELDS = [field for field in AuditEntry._meta.local_concrete_fields if not field.primary_key]
_NEW_RUN = "(SELECT id FROM new_run)"
_IF_NEW = "EXISTS (SELECT 1 FROM new_run)"


@sql.statement
def statement(audited: bool, hinted: bool) -> str:
    """Insert a run with what belongs to it, and return its id.

    Without the graph nothing is inserted. Nor is it if the graph declares inputs to be indexed:
    they are stored in the same transaction, which takes more statements. The lock on the graph is
    that of `input_index.declared_statement`.
    """
    audit = f", audit AS ({_audit_statement()})" if audited else ""
    hint = f", hint AS ({wakeup.insert_task_statement(_IF_NEW)})" if hinted else ""
    notice = f", (SELECT {wakeup.NOTIFY} FROM hint)" if hinted else ""
    return f"""
        WITH graph AS (
            SELECT id FROM statemanager_graphs_graph g
            WHERE id = %s AND NOT EXISTS (
                SELECT 1 FROM statemanager_graphs_indexedinput i
                WHERE i.graph_id = g.id AND NOT i.dropped
            )
            FOR KEY SHARE
        ),
        new_run AS (
            INSERT INTO statemanager_runs_run ({_names(_RUN_FIELDS)})
            SELECT {_names(_RUN_FIELDS)} FROM {_table(_RUN_FIELDS)}
            WHERE EXISTS (SELECT 1 FROM graph)
            RETURNING id
        ),
        roots AS ({store.new_states_statement(_IF_NEW, run=_NEW_RUN)}),
        line AS ({log_lines.insert_statement(_IF_NEW, run=_NEW_RUN)})
        {audit}{hint}
        SELECT id{notice} FROM new_run
    """


def _audit_statement() -> str:
    values = ", ".join(
        _NEW_RUN if field.column == "run" else f"v.{field.column}" for field in _AUDIT_FIELDS
    )
    return f"""
        INSERT INTO statemanager_runs_auditentry ({_names(_AUDIT_FIELDS)})
        SELECT {values} FROM {_table(_AUDIT_FIELDS)} WHERE {_IF_NEW}
    """


def insert(
    run: Run,
    roots: Sequence[Sequence[object]],
    first_line: Sequence[object],
    entry: AuditEntry | None,
    hinted: bool,
) -> bool:
    """Store the run with its root states (`store.state_row`), its first log line and its entry.

    Returns whether it did: see `statement`. Raises IntegrityError if the run id is taken.
    """
    params = [
        run.graph_id,
        *sql.values([_values_of_run(run)]),
        *sql.values(roots),
        *sql.values([first_line]),
    ]
    if entry:
        params += sql.values([_values_of_entry(entry)])
    if hinted:
        params += wakeup.hint_params()
    rows = sql.run(statement(entry is not None, hinted), params)
    if not rows:
        return False
    _mark_stored(run, rows[0][0])
    return True


def _mark_stored(run: Run, pk: int) -> None:
    run.pk = pk
    run._state.adding = False
    run._state.db = connection.alias


@sql.statement
def many_statement() -> str:
    """Insert runs, except those whose run ids are taken. Returns what it inserted.

    An insertion waits for another transaction that has inserted or deleted the same run id.
    """
    return f"""
        INSERT INTO statemanager_runs_run ({_names(_RUN_FIELDS)})
        SELECT {_names(_RUN_FIELDS)} FROM {_table(_RUN_FIELDS)} WHERE true
        ON CONFLICT (namespace_id, run_id) DO NOTHING
        RETURNING id, namespace_id, run_id
    """


def insert_many(runs: Sequence[Run]) -> list[Run]:
    """Store these runs, except those whose run ids are taken. Returns those that it stored."""
    by_id = {(run.namespace_id, run.run_id): run for run in runs}
    stored = []
    for pk, namespace, run_id in sql.run(
        many_statement(), sql.values(list(map(_values_of_run, runs)))
    ):
        run = by_id[namespace, run_id]
        _mark_stored(run, pk)
        stored.append(run)
    return stored


# --- columns and values --------------------------------------------------------------------------


def _names(fields: Sequence[Field]) -> str:
    return ", ".join(str(field.column) for field in fields)


def _table(fields: Sequence[Field]) -> str:
    """A table of parameters with a row for the columns of these fields."""
    kinds = {
        str(field.column): str(field.db_type(connection)).partition("(")[0] for field in fields
    }
    return sql.rows("v", **kinds)


class _Values:
    """Makes the row of a model instance: the values of these fields as the statements take them."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._of = attrgetter(*(field.attname for field in fields))
        converters = [_converter(field) for field in fields]
        self._converters = [(at, each) for at, each in enumerate(converters) if each]

    def __call__(self, instance: Model) -> list[object]:
        row = list(self._of(instance))
        for at, convert in self._converters:
            if row[at] is not None:
                row[at] = convert(row[at])
        return row


def _converter(field: Field) -> Callable[[Any], object] | None:
    if isinstance(field, DateTimeField):
        return sql.stamp
    if isinstance(field, NodeCountsField):
        return node_counts.dump
    return _json if isinstance(field, JSONField) else None


def _json(value: Json) -> str:
    return "{}" if value == {} else _encode(value)  # most are empty


_encode = DjangoJSONEncoder().encode
_values_of_run = _Values(_RUN_FIELDS)
_values_of_entry = _Values(_AUDIT_FIELDS)
