"""The speed that the databases themselves allow, with the statements of the engine alone.

L1 is one transaction for each step, in four round trips. L2 is two transactions for a hundred
steps. SQLite runs the same two in this process. The table has the columns and indexes that the
engine needs.
"""

import json
import sqlite3
import tempfile
import uuid
from pathlib import Path
from time import perf_counter

import psycopg

COLUMNS = "id, run_id, node, status, attempt, lease, outputs"
INDEXES = (
    "CREATE INDEX {t}_run ON {t} (run_id, node)",
    "CREATE INDEX {t}_ready ON {t} (id) WHERE status = 'CREATED'",
    "CREATE INDEX {t}_leased ON {t} (lease) WHERE status = 'QUEUED'",
)


POSTGRES_TABLE = """
    CREATE TABLE bench (
        id uuid PRIMARY KEY,
        run_id bigint NOT NULL,
        node text NOT NULL,
        status text NOT NULL,
        attempt int NOT NULL,
        lease timestamptz,
        outputs jsonb
    ) WITH (fillfactor = 60)
"""
POSTGRES_FINISH = """
    UPDATE bench SET status = 'SUCCESS', outputs = %s::jsonb
    WHERE id = %s AND status = 'QUEUED' AND attempt = %s
"""
POSTGRES_SUCCESSOR = """
    INSERT INTO bench VALUES (%s, %s, %s, 'QUEUED', 1, now() + interval '30 seconds', NULL)
"""
POSTGRES_CLAIM = """
    UPDATE bench
    SET status = 'QUEUED', attempt = attempt + 1, lease = now() + interval '30 seconds'
    WHERE id IN (
        SELECT id FROM bench WHERE status = 'CREATED' ORDER BY id LIMIT 100
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id, attempt
"""
POSTGRES_FINISH_ALL = """
    UPDATE bench SET status = 'SUCCESS', outputs = v.outputs::jsonb, lease = NULL
    FROM unnest(%s::uuid[], %s::int[], %s::text[]) AS v(id, attempt, outputs)
    WHERE bench.id = v.id AND bench.status = 'QUEUED' AND bench.attempt = v.attempt
"""
POSTGRES_INSERT_ALL = """
    INSERT INTO bench SELECT v.id, v.run, 'n', 'CREATED', 0, NULL, NULL
    FROM unnest(%s::uuid[], %s::bigint[]) AS v(id, run)
"""
SQLITE_FINISH = """
    UPDATE bench SET status = 'SUCCESS', outputs = ?
    WHERE id = ? AND status = 'QUEUED' AND attempt = ?
"""
SQLITE_SUCCESSOR = "INSERT INTO bench VALUES (?, 1, 'n', 'QUEUED', 1, '', NULL)"
SQLITE_CLAIM = """
    UPDATE bench SET status = 'QUEUED', attempt = attempt + 1, lease = ''
    WHERE id IN (SELECT id FROM bench WHERE status = 'CREATED' ORDER BY id LIMIT 100)
    RETURNING id, attempt
"""
SQLITE_FINISH_ALL = """
    UPDATE bench SET status = 'SUCCESS', outputs = '{"value": 1}', lease = NULL
    FROM (
        SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS attempt
        FROM json_each(?)
    ) AS v
    WHERE bench.id = v.id AND bench.status = 'QUEUED' AND bench.attempt = v.attempt
"""
SQLITE_INSERT_ALL = """
    INSERT INTO bench SELECT value, 1, 'n', 'CREATED', 0, NULL, NULL FROM json_each(?)
"""
OUTPUTS = '{"value": 1}'


def _ids(count: int) -> list[str]:
    return [uuid.uuid4().hex for _ in range(count)]


class Postgres:
    """L1 and L2 on PostgreSQL, with prepared statements of psycopg 3, over TCP."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self.connection.execute("DROP TABLE IF EXISTS bench")
        self.connection.execute(POSTGRES_TABLE)
        for index in INDEXES:
            self.connection.execute(index.format(t="bench"))

    def close(self) -> None:
        self.connection.execute("DROP TABLE bench")
        self.connection.close()

    def one_by_one(self, steps: int) -> float:
        """L1 in steps per second."""
        state = uuid.uuid4()
        self.connection.execute(POSTGRES_SUCCESSOR, [state, 1, "n"])
        began = perf_counter()
        for _ in range(steps):
            successor = uuid.uuid4()
            with self.connection.transaction():
                self.connection.execute(POSTGRES_FINISH, [OUTPUTS, state, 1])
                self.connection.execute(POSTGRES_SUCCESSOR, [successor, 1, "n"])
            state = successor
        return steps / (perf_counter() - began)

    def by_hundreds(self, steps: int) -> float:
        """L2 in steps per second."""
        self.connection.execute("TRUNCATE bench")
        self._insert(_ids(100))
        began = perf_counter()
        for _ in range(steps // 100):
            claimed = self.connection.execute(POSTGRES_CLAIM).fetchall()
            ids = [state_id for state_id, _ in claimed]
            attempts = [attempt for _, attempt in claimed]
            with self.connection.transaction():
                self.connection.execute(
                    POSTGRES_FINISH_ALL, [ids, attempts, [OUTPUTS] * len(claimed)]
                )
                self._insert(_ids(len(claimed)))
        return steps / (perf_counter() - began)

    def _insert(self, ids: list[str]) -> None:
        self.connection.execute(POSTGRES_INSERT_ALL, [ids, list(range(len(ids)))])


class Sqlite:
    """L1 and L2 on SQLite, with WAL, synchronous = FULL and BEGIN IMMEDIATE."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="statemanager-bench-")
        self.connection = sqlite3.connect(
            Path(self.folder.name) / "bench.sqlite3", isolation_level=None
        )
        self.connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        self.connection.execute(f"CREATE TABLE bench ({COLUMNS}, PRIMARY KEY (id))")
        for index in INDEXES:
            self.connection.execute(index.format(t="bench"))

    def close(self) -> None:
        self.connection.close()
        self.folder.cleanup()

    def one_by_one(self, steps: int) -> float:
        """L1 in steps per second."""
        state = uuid.uuid4().hex
        self.connection.execute(SQLITE_SUCCESSOR, [state])
        began = perf_counter()
        for _ in range(steps):
            successor = uuid.uuid4().hex
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute(SQLITE_FINISH, [OUTPUTS, state, 1])
            self.connection.execute(SQLITE_SUCCESSOR, [successor])
            self.connection.execute("COMMIT")
            state = successor
        return steps / (perf_counter() - began)

    def by_hundreds(self, steps: int) -> float:
        """L2 in steps per second."""
        self.connection.execute("DELETE FROM bench")
        self.connection.execute(SQLITE_INSERT_ALL, [json.dumps(_ids(100))])
        began = perf_counter()
        for _ in range(steps // 100):
            self.connection.execute("BEGIN IMMEDIATE")
            claimed = self.connection.execute(SQLITE_CLAIM).fetchall()
            self.connection.execute("COMMIT")
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute(SQLITE_FINISH_ALL, [json.dumps(claimed)])
            self.connection.execute(SQLITE_INSERT_ALL, [json.dumps(_ids(len(claimed)))])
            self.connection.execute("COMMIT")
        return steps / (perf_counter() - began)
