"""`doctor` says when somebody has changed the tables by hand."""

import pytest
from django.db import connection

from runs.health import schema
from runs.models import Cluster, LogLine, Run, SavedView

pytestmark = pytest.mark.django_db


def reported():
    return [finding.message for finding in schema.findings()]


def test_the_tables_are_what_the_models_say():
    assert reported() == []


CHANGES = {
    "column": (
        "ALTER TABLE statemanager_runs_cluster DROP COLUMN restarts",
        "The table statemanager_runs_cluster has no column restarts.",
    ),
    "extra column": (
        "ALTER TABLE statemanager_runs_cluster ADD COLUMN mine integer NOT NULL DEFAULT 1",
        "The table statemanager_runs_cluster has a column mine that no model has.",
    ),
    "index": (
        "DROP INDEX sm_run_newest",
        "The table statemanager_runs_run has no index or constraint sm_run_newest.",
    ),
    "extra unique index": (
        "CREATE UNIQUE INDEX mine ON statemanager_runs_logline (message, level)",
        "The table statemanager_runs_logline has a unique index mine that no model has.",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_by_hand_is_reported(change):
    statement, message = CHANGES[change]
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert reported() == [message]


@pytest.mark.parametrize(
    ("model", "name"),
    [(Run, "sm_run_progress_percent"), (SavedView, "sm_view_once_per_owner")],
    ids=["check", "unique"],
)
def test_a_missing_constraint_is_reported(model, name):
    [constraint] = [each for each in model._meta.constraints if each.name == name]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {model._meta.db_table} DROP CONSTRAINT {name}")
        assert f"has no index or constraint {name}" in reported()[0]
    else:  # SQLite can't drop one; the model has one that the table lacks instead
        later = constraint.clone()
        later.name = f"{name}_2"
        model._meta.constraints.append(later)
        try:
            assert f"has no index or constraint {name}_2" in reported()[0]
        finally:
            model._meta.constraints.remove(later)


def test_a_missing_foreign_key_is_reported(database):
    if database == "sqlite":
        field = Cluster._meta.get_field("host")  # SQLite can't drop one
        field.db_index = True
        try:
            assert reported() == ["The table statemanager_runs_cluster has no index of host."]
        finally:
            field.db_index = False
        return
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, LogLine._meta.db_table)
        [name] = [name for name, each in constraints.items() if each["foreign_key"]]
        cursor.execute(f'ALTER TABLE {LogLine._meta.db_table} DROP CONSTRAINT "{name}"')
    assert reported() == ["The table statemanager_runs_logline has no foreign key run_id."]


def test_indexes_that_somebody_added_are_fine():
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX mine ON statemanager_runs_logline (message)")
    assert reported() == []
