"""The database is full, busy, or has no connection left while an installation works.

Nothing is lost, nothing is doubled, and no request gets a 500. Work goes on when there is room.
"""

import sqlite3
import threading
from contextlib import closing
from time import monotonic, sleep

import psycopg
import pytest
from django.db import connection

from runs.engine.start import start_run
from runs.models import Run, State
from tests.chaos.installation import Installation
from tests.chaos.site import assert_all_completed, drawing_options, site, small_disk
from tests.support.clusters import supervised, until
from tests.support.invariants import assert_counters_agree

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]


@pytest.mark.only_on("postgresql")
def test_the_disk_of_postgresql_is_full(tmp_path):
    """Requests are answered with 503 or 507, and work continues when there is room again."""
    settings = ("max_wal_size=64MB", "min_wal_size=32MB", "wal_recycle=off")
    with (
        small_disk(400) as disk,
        site(tmp_path, parent=disk, settings=settings) as opened,
    ):
        opened.start(6)
        filler = disk / "filler"
        with filler.open("wb") as file, pytest.raises(OSError, match="No space left"):  # noqa: PT012
            while True:
                file.write(b"x" * 2**20)
                file.flush()
        large_inputs = {"inputs": {"text": "x" * 400_000}}
        codes = {
            opened.installation.code(f"/graphs/{opened.graph}/run", large_inputs) for _ in range(60)
        }
        assert codes <= {200, 201, 202, 503, 507}, codes
        assert codes & {503, 507}, "the disk was never full"
        filler.unlink()
        opened.server.revive()
        opened.started = opened.read("SELECT count(*) FROM statemanager_runs_run")[0][0]
        opened.start(6)
        opened.assert_all_completed_once()


@pytest.mark.only_on("postgresql")
def test_no_connection_is_left(tmp_path):
    """Requests are answered with 503, and work continues when there are connections again."""
    settings = ("max_connections=20", "superuser_reserved_connections=3")
    with site(tmp_path, settings=settings) as opened:
        opened.server.execute(
            "CREATE ROLE plain LOGIN; GRANT ALL ON DATABASE statemanager TO plain"
        )
        opened.start(6)
        taken = []
        try:
            while len(taken) < 20:
                taken.append(psycopg.connect(opened.server.url.replace("statemanager@", "plain@")))
        except psycopg.OperationalError as error:
            message = str(error)
            assert "remaining connection slots" in message or "too many clients" in message, message
        try:
            codes = {opened.installation.code("/graphs") for _ in range(12)}
            assert codes <= {200, 503}, codes
        finally:
            for taken_connection in taken:
                taken_connection.close()
        opened.start(6)
        opened.assert_all_completed_once()


@pytest.mark.only_on("sqlite")
def test_sqlite_is_busy(publish, make_key, request):
    """While another process has the write lock, workers wait, and requests wait or get 503."""
    graph = publish("start>out>work>slow>all", **drawing_options())
    seconds = 30 if request.config.getoption("--outage-minutes") else 4
    installation = Installation(make_key("admin"))
    try:
        for number in range(6):
            installation.post(f"/graphs/{graph.pk}/run", {}, f"before {number}")
        codes = []
        path = connection.settings_dict["NAME"]
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            request_thread = threading.Thread(
                target=lambda: codes.append(installation.code(f"/graphs/{graph.pk}/run", {}))
            )
            request_thread.start()
            release_at = monotonic() + seconds
            until(lambda: monotonic() > release_at, seconds + 5)
            other.execute("ROLLBACK")
            request_thread.join()
        assert codes[0] in (200, 503), codes
        for number in range(6):
            installation.post(f"/graphs/{graph.pk}/run", {}, f"after {number}")
        until(
            lambda: installation.revive() or not Run.objects.filter(pending_count__gt=0).exists(),
            90,
            0.2,
        )
    finally:
        installation.close()
    assert_all_completed(12 + codes.count(200))


@pytest.mark.only_on("sqlite")
def test_sqlite_is_full(publish):
    """While the file can't grow, states wait; when it can grow again, they continue."""
    graph = publish("start>out>work>slow>all", **drawing_options())
    runs = [start_run(graph) for _ in range(8)]
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
    with supervised(MAX_PAGES=str(pages + 2)):
        until(lambda: State.objects.filter(attempt__gt=0).exists(), 20)
        _wait_until_no_state_is_added()
    assert Run.objects.filter(pending_count__gt=0).exists(), "the file had room for all states"
    for run in runs:
        run.refresh_from_db()
        assert run.status in ("queued", "running", "completed"), "a full disk is no failure"
        assert_counters_agree(run)
    with supervised():
        until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 90, 0.2)
    assert_all_completed(8)


def _wait_until_no_state_is_added():
    """Wait until the number of states has been the same for three seconds."""
    states = -1
    since = monotonic()
    while monotonic() - since < 3:
        now = State.objects.count()
        if now != states:
            states = now
            since = monotonic()
        sleep(0.2)
