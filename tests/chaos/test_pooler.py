"""An installation behind pgbouncer, which gives a connection to each transaction."""

import shutil
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.chaos.site import site
from tests.support.clusters import until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.chaos,
    pytest.mark.only_on("postgresql"),
]


@pytest.fixture
def pooled():
    """A server, and the URL of the pooler before it."""
    if not (shutil.which("pgbouncer") or Path("/usr/sbin/pgbouncer").exists()):
        pytest.skip("pgbouncer (install the package pgbouncer)")
    server = postgres.Server(quick=False)
    try:
        with server.pooled() as url:
            until(lambda: answers(url), 20)
            yield server, url
    finally:
        server.close()


def answers(url):
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("listens", [False, True], ids=["looking", "listening"])
def test_everything_works_behind_a_pooler(pooled, tmp_path, listens):
    """With more processes than the pooler has connections, and with connections that it cuts."""
    server, url = pooled
    env = {"DATABASE_URL": url, "DATABASE_POOLED": "1"}
    if listens:
        env["DATABASE_LISTEN_URL"] = server.url
    with site(tmp_path, env, server) as opened:
        opened.start(6)
        opened.cut_connections()
        opened.start(6)
        opened.assert_all_completed_once()
        assert opened.installation.code("/healthz") == 200
        assert opened.installation.code(f"/graphs/{opened.graph}/runs") == 200
        listening = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        until(lambda: opened.read(listening) == [(listens,)], 30)


def test_a_start_that_cannot_work_says_what_to_set(pooled, tmp_path):
    server, url = pooled
    with site(tmp_path, {"DATABASE_URL": url, "DATABASE_POOLED": "1"}, server) as opened:
        opened.env["DATABASE_POOLED"] = "0"
        process = opened.start_command("supervise", "--workers", "1")
        try:
            until(lambda: b"DATABASE_POOLED=1" in process.stderr.readline(), 30)
        finally:
            process.terminate()
            process.wait(30)
            process.stderr.close()
