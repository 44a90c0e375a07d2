"""What the databases themselves allow, measured beside the product: the statements L1 and L2
without a product around them.

L1: one transaction a step in four round trips. L2: two transactions for a hundred steps. SQLite has
the same pair in one process. The table has the columns and indexes that the product's hot path
needs.
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


def _ids(count: int) -> list[str]:
    return [uuid.uuid4().hex for _ in range(count)]


class Postgres:
    """L1 and L2 on PostgreSQL, psycopg 3, prepared statements, over TCP."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self.connection.execute("DROP TABLE IF EXISTS bench")
        self.connection.execute(
            "CREATE TABLE bench (id uuid PRIMARY KEY, run_id bigint NOT NULL, node text NOT NULL,"
            " status text NOT NULL, attempt int NOT NULL, lease timestamptz, outputs jsonb) WITH"
            " (fillfactor = 60)"
        )
        for index in INDEXES:
            self.connection.execute(index.format(t="bench"))

    def close(self) -> None:
        self.connection.execute("DROP TABLE bench")
        self.connection.close()

    def one_by_one(self, steps: int) -> float:
        """Steps per second of L1."""
        state, run = uuid.uuid4(), 1
        self.connection.execute(
            "INSERT INTO bench VALUES (%s, 1, 'n', 'QUEUED', 1, now(), NULL)", [state]
        )
        began = perf_counter()
        for _ in range(steps):
            following = uuid.uuid4()
            with self.connection.transaction():
                self.connection.execute(
                    "UPDATE bench SET status = 'SUCCESS', outputs = %s::jsonb WHERE id = %s AND"
                    " status = 'QUEUED' AND attempt = %s",
                    ['{"value": 1}', state, 1],
                )
                self.connection.execute(
                    "INSERT INTO bench VALUES (%s, %s, %s, 'QUEUED', 1, now() + interval '30"
                    " seconds', NULL)",
                    [following, run, "n"],
                )
            state = following
        return steps / (perf_counter() - began)

    def by_hundreds(self, steps: int) -> float:
        """Steps per second of L2."""
        self.connection.execute("TRUNCATE bench")
        self._insert(_ids(100))
        began = perf_counter()
        for _ in range(steps // 100):
            claimed = self.connection.execute(
                "UPDATE bench SET status = 'QUEUED', attempt = attempt + 1, lease = now() +"
                " interval '30 seconds' WHERE id IN (SELECT id FROM bench WHERE status = 'CREATED'"
                " ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED) RETURNING id, attempt"
            ).fetchall()
            with self.connection.transaction():
                self.connection.execute(
                    "UPDATE bench SET status = 'SUCCESS', outputs = v.outputs::jsonb, lease = NULL"
                    " FROM unnest(%s::uuid[], %s::int[], %s::text[]) AS v(id, attempt, outputs)"
                    " WHERE bench.id = v.id AND bench.status = 'QUEUED' AND bench.attempt ="
                    " v.attempt",
                    [
                        [row[0] for row in claimed],
                        [row[1] for row in claimed],
                        ['{"value": 1}'] * len(claimed),
                    ],
                )
                self._insert(_ids(len(claimed)))
        return steps / (perf_counter() - began)

    def _insert(self, ids: list[str]) -> None:
        self.connection.execute(
            "INSERT INTO bench SELECT v.id, v.run, 'n', 'CREATED', 0, NULL, NULL FROM"
            " unnest(%s::uuid[], %s::bigint[]) AS v(id, run)",
            [ids, list(range(len(ids)))],
        )


class Sqlite:
    """The same on SQLite: WAL, synchronous FULL, BEGIN IMMEDIATE."""

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
        state = uuid.uuid4().hex
        self.connection.execute(
            "INSERT INTO bench VALUES (?, 1, 'n', 'QUEUED', 1, '', NULL)", [state]
        )
        began = perf_counter()
        for _ in range(steps):
            following = uuid.uuid4().hex
            self.connection.execute("BEGIN IMMEDIATE")
            done = (
                "UPDATE bench SET status = 'SUCCESS', outputs = ? WHERE id = ? AND status ="
                " 'QUEUED' AND attempt = ?"
            )
            self.connection.execute(done, ['{"value": 1}', state, 1])
            self.connection.execute(
                "INSERT INTO bench VALUES (?, 1, 'n', 'QUEUED', 1, '', NULL)", [following]
            )
            self.connection.execute("COMMIT")
            state = following
        return steps / (perf_counter() - began)

    def by_hundreds(self, steps: int) -> float:
        self.connection.execute("DELETE FROM bench")
        insert = (
            "INSERT INTO bench SELECT value, 1, 'n', 'CREATED', 0, NULL, NULL FROM json_each(?)"
        )
        self.connection.execute(insert, [json.dumps(_ids(100))])
        began = perf_counter()
        for _ in range(steps // 100):
            self.connection.execute("BEGIN IMMEDIATE")
            claim = (
                "UPDATE bench SET status = 'QUEUED', attempt = attempt + 1, lease = '' WHERE id IN"
            )
            claimed = self.connection.execute(
                f"{claim} (SELECT id FROM bench WHERE status = 'CREATED' ORDER BY id LIMIT 100)"
                " RETURNING id, attempt"
            ).fetchall()
            self.connection.execute("COMMIT")
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute(
                "UPDATE bench SET status = 'SUCCESS', outputs = '{\"value\": 1}', lease = NULL FROM"
                " (SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS attempt"
                " FROM json_each(?)) AS v WHERE bench.id = v.id AND bench.status = 'QUEUED' AND"
                " bench.attempt = v.attempt",
                [json.dumps(claimed)],
            )
            self.connection.execute(insert, [json.dumps(_ids(len(claimed)))])
            self.connection.execute("COMMIT")
        return steps / (perf_counter() - began)
