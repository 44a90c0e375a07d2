from django.core.management.base import BaseCommand, CommandError
from django.db import ProgrammingError, connection
from django.db.utils import NotSupportedError, OperationalError

from graphs.models.lookups import upper

# Trigrams answer searches for a part of an id or a name; jsonb_path_ops answers filters for labels.
# CONCURRENTLY lets runs go on while a large table is being indexed.
_SEARCH = """
    CREATE INDEX CONCURRENTLY IF NOT EXISTS sm_run_search_text
    ON statemanager_runs_run USING gin ({run_id} gin_trgm_ops, {name} gin_trgm_ops)
"""
_LABELS = """
    CREATE INDEX CONCURRENTLY IF NOT EXISTS sm_run_labels
    ON statemanager_runs_run USING gin (labels jsonb_path_ops)
"""
# The index of 0.9.0, whose letter case was that of the database's locale.
_DROP_OLD = "DROP INDEX CONCURRENTLY IF EXISTS sm_run_search"


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
            cursor.execute(_SEARCH.format(run_id=upper("run_id"), name=upper("name")))
            self.stdout.write("The index sm_run_search_text exists.")
            cursor.execute(_LABELS)
            self.stdout.write("The index sm_run_labels exists.")
            cursor.execute(_DROP_OLD)
            cursor.execute("ANALYZE statemanager_runs_run")
