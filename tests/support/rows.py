"""Whether a request changed rows.

Reading all tables takes much longer than most requests, so ask first whether any row was written.
"""

from django.db import connection

WRITTEN = """
SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)
FROM pg_stat_xact_user_tables
"""


def written() -> int:
    """How many rows this connection has inserted, updated and deleted, also for nothing.

    It counts those of the transaction of a test on PostgreSQL, and all of the connection on SQLite,
    and what was rolled back remains counted on both.
    """
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        return int(connection.connection.total_changes)
    with connection.cursor() as cursor:
        cursor.execute(WRITTEN)
        return int(cursor.fetchone()[0])
