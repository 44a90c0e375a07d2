from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import ProgrammingError, connection
from django.db.utils import NotSupportedError, OperationalError

INDEXES = {
    "sm_run_search": "CREATE INDEX CONCURRENTLY IF NOT EXISTS sm_run_search ON statemanager_runs_run USING gin (upper(run_id) gin_trgm_ops, upper(name) gin_trgm_ops)",
    "sm_run_labels": "CREATE INDEX CONCURRENTLY IF NOT EXISTS sm_run_labels ON statemanager_runs_run USING gin (labels jsonb_path_ops)",
}


class Command(BaseCommand):
    help = "Make the indexes that searching parts of names and labels needs on large PostgreSQL databases (extension pg_trgm)."

    def handle(self, *args: Any, **options: Any) -> None:
        if connection.vendor != "postgresql":
            raise CommandError(
                "SQLite has no such indexes; searching reads the table, which is fine up to some 100,000 runs."
            )
        with connection.cursor() as cursor:
            try:
                cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            except (NotSupportedError, OperationalError, ProgrammingError) as error:
                raise CommandError(
                    f"This PostgreSQL lacks the extension pg_trgm, or you may not create it: {str(error).strip()}"
                ) from None
            for name, statement in INDEXES.items():
                cursor.execute(statement)
                self.stdout.write(f"{name} is there")
            cursor.execute("ANALYZE statemanager_runs_run")
