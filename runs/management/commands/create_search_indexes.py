from django.core.management.base import BaseCommand, CommandError
from django.db import ProgrammingError, connection
from django.db.utils import NotSupportedError, OperationalError

# Trigrams answer searches for a part of an id or a name; jsonb_path_ops answers filters for labels.
# CONCURRENTLY lets runs go on while a large table is being indexed.
INDEXES = {
    "sm_run_search": """
        CREATE INDEX CONCURRENTLY IF NOT EXISTS sm_run_search
        ON statemanager_runs_run
        USING gin (upper(run_id) gin_trgm_ops, upper(name) gin_trgm_ops)
    """,
    "sm_run_labels": """
        CREATE INDEX CONCURRENTLY IF NOT EXISTS sm_run_labels
        ON statemanager_runs_run
        USING gin (labels jsonb_path_ops)
    """,
}


class Command(BaseCommand):
    help = (
        "Create the indexes for searching parts of names and labels in large PostgreSQL databases."
        " They need the extension pg_trgm."
    )

    def handle(self, *args: object, **options: object) -> None:
        if connection.vendor != "postgresql":
            raise CommandError(
                "SQLite has no such indexes. Searches read the whole table, which is fast enough"
                " up to about 100,000 runs."
            )
        with connection.cursor() as cursor:
            try:
                cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            except (NotSupportedError, OperationalError, ProgrammingError) as error:
                raise CommandError(
                    "The extension pg_trgm is not installed, or you may not create it:"
                    f" {str(error).strip()}"
                ) from None
            for name, statement in INDEXES.items():
                cursor.execute(statement)
                self.stdout.write(f"The index {name} exists.")
            cursor.execute("ANALYZE statemanager_runs_run")
