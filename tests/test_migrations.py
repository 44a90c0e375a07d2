"""Migrations keep the code of the release before them working, so upgrades need no downtime."""

import gzip
import json
import sqlite3
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection, migrations, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.utils import timezone

from graphs.models.migrating import AddIndexConcurrently
from runs.core import sql
from runs.engine import lease_recovery
from runs.engine.start import start_run
from runs.health import recount
from runs.models import LogLine, Run, State
from tests.upgrade.make import HERE

LABELS = ("statemanager_graphs", "statemanager_runs")
FIRST = "0001_initial"
RELEASE = "0.9.0"
BREAKING = (
    migrations.RemoveField,
    migrations.RenameField,
    migrations.DeleteModel,
    migrations.RenameModel,
    migrations.AlterModelTable,
    migrations.AlterUniqueTogether,
)
# What was dropped, as (migration, operation), after a release in which no code used it.
DROPPED: set[tuple[str, str]] = set()


def later_migrations():
    """The migrations after the first ones, with the state before each of them."""
    loader = MigrationLoader(None)
    for (label, name), migration in sorted(loader.disk_migrations.items()):
        if label in LABELS and name != FIRST:
            yield migration, loader.project_state((label, name), at_end=False)


def problems_of(migration, state):
    """Why the code before a migration would not work after it, in sentences."""
    state = state.clone()
    for operation in migration.operations:
        problem = _problem(migration, operation, state)
        if problem and (migration.name, operation.migration_name_fragment) not in DROPPED:
            yield f"{migration}, {operation.describe()}: {problem}"
        operation.state_forwards(migration.app_label, state)


def _problem(migration, operation: Operation, state) -> str:
    made_here = {
        each.name_lower for each in migration.operations if isinstance(each, migrations.CreateModel)
    }
    if isinstance(operation, BREAKING):
        return "old code uses it"
    if isinstance(operation, migrations.CreateModel):
        return _new_table_problem(operation, made_here)
    if getattr(operation, "model_name_lower", "") in made_here:
        return ""  # no old code knows the table
    if isinstance(operation, migrations.AddField):
        field = operation.field
        has_column = not isinstance(field, models.ManyToManyField)
        is_optional = field.null or field.has_db_default()
        return "" if is_optional or not has_column else "old code does not set it: add a db_default"
    if isinstance(operation, migrations.AlterField):
        model = state.models[migration.app_label, operation.model_name_lower]
        return _alter_problem(model.fields[operation.name], operation.field)
    if isinstance(operation, AddIndexConcurrently):
        return "it needs atomic = False" if migration.atomic else ""
    if isinstance(operation, migrations.AddIndex):
        return "it locks the table: use graphs.models.migrating.AddIndexConcurrently"
    if isinstance(operation, migrations.AddConstraint):
        return "it locks the table, and old code may violate it"
    return ""


DELETED = ("run", "graph", "namespace")


def _new_table_problem(operation: migrations.CreateModel, made_here) -> str:
    """Old code doesn't know the rows of a new table, so it can't delete them with their runs."""
    for name, field in operation.fields:
        if isinstance(field, models.ForeignKey) and field.db_constraint:
            table = str(field.remote_field.model).rpartition(".")[2].lower()
            if table not in made_here and table in DELETED:
                return f"old code can't delete a {table} that has a row: {name} needs db_constraint"
    return ""


def _alter_problem(old: models.Field, new: models.Field) -> str:
    if old.null and not new.null:
        return "old code may store NULL"
    if old.get_internal_type() != new.get_internal_type():
        return "the type changes under the old code"
    if (new.max_length or 10**9) < (old.max_length or 0):
        return "old code may store longer values"
    return ""


def test_every_migration_keeps_old_code_working():
    found = [
        problem
        for migration, state in later_migrations()
        for problem in problems_of(migration, state)
    ]
    assert found == []


def made(*operations, atomic=True, name="0099_made"):
    """A migration of runs, for the check."""
    members = {"operations": list(operations), "atomic": atomic}
    return type("Migration", (migrations.Migration,), members)(name, "statemanager_runs")


INDEX = models.Index(fields=["level"], name="sm_made")
RUN = "statemanager_runs.Run"
REFUSED = {
    "a column without a db_default": made(
        migrations.AddField("run", "more", models.TextField(default=""))
    ),
    "a dropped column": made(migrations.RemoveField("run", "workspace")),
    "a renamed column": made(migrations.RenameField("run", "workspace", "place")),
    "a dropped table": made(migrations.DeleteModel("savedview")),
    "a renamed table": made(migrations.RenameModel("savedview", "view")),
    "NOT NULL": made(
        migrations.AlterField("run", "finished_at", models.DateTimeField(default=timezone.now))
    ),
    "another type": made(migrations.AlterField("run", "workspace", models.IntegerField())),
    "a shorter text": made(
        migrations.AlterField("run", "workspace", models.CharField(max_length=9))
    ),
    "an index that locks": made(migrations.AddIndex("logline", INDEX)),
    "an index in a transaction": made(AddIndexConcurrently("logline", INDEX)),
    "a constraint": made(
        migrations.AddConstraint(
            "run", models.CheckConstraint(condition=models.Q(pk__gt=0), name="sm_made")
        )
    ),
    "a new table whose rows keep a run": made(
        migrations.CreateModel(
            "Made",
            [("run", models.OneToOneField(RUN, models.CASCADE, primary_key=True))],
        )
    ),
}
ACCEPTED = {
    "a column with a db_default": made(
        migrations.AddField("run", "more", models.TextField(default="", db_default=""))
    ),
    "a nullable column": made(migrations.AddField("run", "more", models.TextField(null=True))),
    "a new table with an index": made(
        migrations.CreateModel("Made", [("id", models.BigAutoField(primary_key=True))]),
        migrations.AddIndex("made", models.Index(fields=["id"], name="sm_made")),
    ),
    "an index made concurrently": made(AddIndexConcurrently("logline", INDEX), atomic=False),
    "a longer text": made(
        migrations.AlterField("run", "workspace", models.CharField(max_length=400))
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_the_check_refuses(change):
    state = MigrationLoader(None).project_state(("statemanager_runs", FIRST))
    assert list(problems_of(REFUSED[change], state))


@pytest.mark.parametrize("change", ACCEPTED)
def test_the_check_accepts(change):
    state = MigrationLoader(None).project_state(("statemanager_runs", FIRST))
    assert not list(problems_of(ACCEPTED[change], state))


@pytest.mark.django_db(transaction=True)
def test_an_index_is_made_concurrently_and_again_after_an_interruption():
    operation = AddIndexConcurrently("logline", INDEX)
    before = MigrationLoader(connection).project_state()
    after = before.clone()
    operation.state_forwards("statemanager_runs", after)
    arguments = ("statemanager_runs", before, after)

    def change(call, first, second):
        with connection.schema_editor(atomic=False) as editor:
            call(arguments[0], editor, first, second)

    def is_there():
        with connection.cursor() as cursor:
            table = LogLine._meta.db_table
            return "sm_made" in connection.introspection.get_constraints(cursor, table)

    change(operation.database_forwards, before, after)
    assert is_there()
    if connection.vendor == "postgresql":
        sql.send(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'sm_made'::regclass", []
        )
        change(operation.database_forwards, before, after)
        assert is_there()
    change(operation.database_backwards, after, before)
    assert not is_there()


# --- old code beside new code -------------------------------------------------------------------


def old_models():
    """The models as the release before had them: their statements name only its columns."""
    loader = MigrationExecutor(connection).loader
    nodes = [(label, FIRST) for label in LABELS]
    apps = loader.project_state(nodes).apps
    return [model for label in LABELS for model in apps.get_app_config(label).get_models()]


def converted(field: models.Field, value):
    """A value of the release's SQLite file as Python has it."""
    if value is None:
        return None
    kind = field.get_internal_type()
    if isinstance(field, models.ForeignKey):
        kind = field.target_field.get_internal_type()
    readers = {
        "JSONField": json.loads,
        "DateTimeField": lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC),
        "UUIDField": uuid.UUID,
        "BooleanField": bool,
        "BinaryField": bytes,
    }
    return readers.get(kind, lambda same: same)(value)


@pytest.fixture
def installation(tmp_path):
    """The rows of an installation of the release, as SQLite has them."""
    file = tmp_path / "db.sqlite3"
    file.write_bytes(gzip.decompress((HERE / RELEASE / "db.sqlite3.gz").read_bytes()))
    database = sqlite3.connect(file)
    database.row_factory = sqlite3.Row
    yield database
    database.close()


def insert_as_before(installation):
    """INSERT all rows with the statements of the release. Returns the number of rows by table."""
    for user in installation.execute("SELECT id, username FROM auth_user"):
        User.objects.get_or_create(pk=user["id"], defaults={"username": user["username"]})
    counts = {}
    for model in old_models():
        model._base_manager.all()._raw_delete(connection.alias)  # what migrate stored
    for model in old_models():
        rows = installation.execute(f"SELECT * FROM {model._meta.db_table}").fetchall()
        fields = model._meta.local_concrete_fields
        model._base_manager.bulk_create(
            model(**{each.attname: converted(each, row[each.column]) for each in fields})
            for row in rows
        )
        counts[model._meta.db_table] = len(rows)
    if connection.vendor == "postgresql":
        for model in old_models():
            _advance_sequence(model)
    return counts


def _advance_sequence(model):
    """Let the sequence of a table follow the keys that were given.

    It never goes back: a rollback brings the rows back that were there, but not the sequence.
    """
    table, pk = model._meta.db_table, model._meta.pk
    if isinstance(pk, models.AutoField):
        sequence = f"pg_get_serial_sequence('{table}', '{pk.column}')"
        largest = f"(SELECT max({pk.column}) FROM {table})"
        sql.run(f"SELECT setval({sequence}, greatest(nextval({sequence}), {largest}))")


@pytest.mark.django_db
def test_what_the_release_before_writes_is_read_and_executed_by_this_one(installation, drain):
    with connection.constraint_checks_disabled():
        counts = insert_as_before(installation)
    connection.check_constraints()
    assert counts["statemanager_runs_state"] > 20
    assert counts["statemanager_runs_run"] > 10
    before = dict(Run.objects.values_list("run_id", "status"))
    assert (before["queued"], before["running"]) == ("queued", "running")

    lease_recovery.rescue_expired()
    drain()
    after = dict(Run.objects.values_list("run_id", "status"))
    assert after == {**before, "queued": "completed", "running": "completed"}
    assert not list(recount.drifted())


@pytest.mark.django_db
def test_both_releases_move_the_same_run(publish, drain):
    """The old code inserts and claims, the new one takes over, and the other way round."""
    by_name = {model.__name__: model for model in old_models()}
    run = start_run(publish("a>b"))
    old_run = by_name["Run"].objects.get(pk=run.pk)
    old_run.pk, old_run.run_id = None, "old"
    old_run.save(force_insert=True)
    old_state = by_name["State"].objects.get(run_id=run.pk)
    old_state.pk, old_state.run_id = uuid.uuid4(), old_run.pk
    old_state.save(force_insert=True)
    by_name["LogLine"].objects.create(run_id=old_run.pk, message="written by the old code")
    by_name["Cluster"].objects.create(name="old", host="h", pid=1, workers=1)
    # The old code claims a state, and its worker is lost.
    by_name["State"].objects.filter(pk=old_state.pk).update(
        status="QUEUED",
        attempt=1,
        worker="old:1",
        lease_expires_at=sql.clock() - timedelta(minutes=1),
    )
    by_name["Run"].objects.filter(pk=old_run.pk).update(status="running")

    lease_recovery.rescue_expired()
    drain()
    assert set(Run.objects.values_list("status", flat=True)) == {"completed"}
    assert {each.status for each in State.objects.all()} == {"SUCCESS"}
    assert by_name["Run"].objects.filter(status="completed").count() == 2
    assert [each.status for each in by_name["State"].objects.filter(run_id=run.pk)] == [
        "SUCCESS"
    ] * 2
