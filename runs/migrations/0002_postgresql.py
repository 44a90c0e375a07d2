"""What only PostgreSQL has: byte order for paths, and room for updates on the hot tables."""

from django.db import migrations

FORWARDS = [
    # Ranges of paths (runs.paths) compare bytes; another collation would put "." and "/" elsewhere.
    'ALTER TABLE runs_state ALTER COLUMN path TYPE varchar(1000) COLLATE "C"',
    # A slice rewrites its run row and each of its states once: on the same page, if there is room.
    "ALTER TABLE runs_run SET (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.02)",
    "ALTER TABLE runs_state SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1)",
]
BACKWARDS = ["ALTER TABLE runs_state RESET (fillfactor)", "ALTER TABLE runs_run RESET (fillfactor)"]


def _only_postgresql(statements):
    def execute(apps, schema_editor):
        if schema_editor.connection.vendor == "postgresql":
            for statement in statements:
                schema_editor.execute(statement)

    return execute


class Migration(migrations.Migration):
    dependencies = [("runs", "0001_initial")]
    operations = [migrations.RunPython(_only_postgresql(FORWARDS), _only_postgresql(BACKWARDS))]
