"""PostgreSQL crashes, cuts its connections or is set up strangely while an installation works.

Nothing is lost, nothing is doubled, and no request gets a 500. The PostgreSQL server of these tests
is a server of its own, with durable settings. `--outage-minutes N` crashes it every 5 to 40 s for N
minutes; without it, twice.
"""

import os
import random
import signal
import statistics
from time import monotonic, sleep

import psycopg
import pytest

from tests.chaos.figures import BACK_SECONDS, NOISE_SECONDS
from tests.chaos.installation import SUPERVISORS, children
from tests.chaos.site import site
from tests.support.clusters import until
from tests.support.definitions import definition

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.chaos,
    pytest.mark.only_on("postgresql"),
]
WIDE = 3000  # states: about half a second of work
ROUNDS = 3

SECONDS_OF_LAST_RUN = """
SELECT extract(epoch FROM finished_at - started_at)
FROM statemanager_runs_run
ORDER BY id DESC
LIMIT 1
"""

# {settings: those that doctor names}. The engine sets its own lock_timeout.
ROLES = {
    "default_transaction_isolation = serializable": "default_transaction_isolation",
    "default_transaction_isolation = 'repeatable read'": "default_transaction_isolation",
    "statement_timeout = '1s'": "statement_timeout",
    "idle_in_transaction_session_timeout = '300ms'": "idle_in_transaction_session_timeout",
    "lock_timeout = '100ms'": "",
}


@pytest.fixture(scope="module")
def shared_site(django_db_setup, tmp_path_factory):
    """An installation that several tests use, one after the other: making one takes long."""
    with site(tmp_path_factory.mktemp("site")) as opened:
        yield opened


def test_postgresql_crashes_again_and_again(shared_site, request, record_property):
    """PostgreSQL stops immediately, as in a crash, and starts again up to two seconds later."""
    minutes = request.config.getoption("--outage-minutes")
    chance = random.Random(7)
    waits = []
    ends_at = monotonic() + 60 * minutes
    while len(waits) < 2 or monotonic() < ends_at:
        shared_site.start(12)
        # The moment of the crash is what is random.
        sleep(chance.uniform(5, 40) if minutes else chance.uniform(0.3, 0.6))
        if not shared_site.unfinished():
            shared_site.start(12)
        shared_site.server.stop("immediate")
        sleep(chance.uniform(0, 2))
        shared_site.server.start()
        started_at = monotonic()
        moment = shared_site.read("SELECT now()")[0][0].isoformat()
        finished = f"SELECT count(*) FROM statemanager_runs_state WHERE finished_at > '{moment}'"
        until(
            lambda query=finished: (
                shared_site.installation.revive() or shared_site.read(query)[0][0]
            ),
            60,
        )
        waits.append(monotonic() - started_at)
    shared_site.assert_all_completed_once()
    assert max(waits) <= BACK_SECONDS + NOISE_SECONDS, waits
    record_property(
        "report",
        f"PostgreSQL crashed {len(waits)} times: {shared_site.started} runs, "
        f"none lost or doubled; back at most {max(waits):.1f} s after it",
    )


def test_clusters_that_are_killed_while_postgresql_is_away_come_back(shared_site):
    """Their supervisors can't start them meanwhile; they do so when the server is back."""
    shared_site.start(4)
    supervisors = [shared_site.installation.parts[name] for name in SUPERVISORS]

    def clusters():
        return [pid for supervisor in supervisors for pid in children(supervisor.pid)]

    until(lambda: len(clusters()) == len(supervisors), 20)
    started = clusters()
    shared_site.server.stop("immediate")
    for pid in started:
        os.killpg(pid, signal.SIGKILL)
    until(lambda: not clusters(), 20)
    shared_site.server.start()
    shared_site.start(4)
    shared_site.assert_all_completed_once()
    assert [supervisor.poll() for supervisor in supervisors] == [None, None], "none has ended"


def test_connections_are_cut_all_the_time(shared_site):
    total = 0
    for _ in range(4):
        shared_site.start(4)
        total += shared_site.cut_connections()
    assert total > 8
    shared_site.assert_all_completed_once()


@pytest.fixture
def role(shared_site):
    """The server, whose role has its own settings again in the end."""
    yield shared_site.server
    shared_site.server.execute("ALTER ROLE statemanager RESET ALL")
    shared_site.cut_connections()


def test_work_ends_rightly_whatever_the_role_sets(shared_site, role):
    """Transactions fail and are repeated. Every state succeeds once, and doctor says the cause."""
    for setting, name in ROLES.items():
        role.execute("ALTER ROLE statemanager RESET ALL")
        role.execute(f"ALTER ROLE statemanager SET {setting}")
        shared_site.cut_connections()
        shared_site.start(4)
        until(lambda: not shared_site.unfinished(), 90, 0.2)
        assert name in shared_site.run_command("doctor").stdout
    shared_site.assert_all_completed_once()
    assert shared_site.installation.ended == []


def test_an_open_snapshot_does_not_slow_claims(shared_site, record_property):
    """A transaction that stays open delays cleaning up, not claiming.

    Rounds with and without an open transaction take turns, so that both meet the same machine.
    """
    rates = {True: [], False: []}
    wide = definition(
        "start>out>each", kinds={"out": "test.each"}, inputs={"out": {"items": [*range(WIDE)]}}
    )
    with psycopg.connect(shared_site.server.url) as idle:
        graph = shared_site.installation.post(
            "/graphs", {"name": "wide", "namespace": "alpha", **wide}, "wide"
        )["id"]
        _states_per_second(shared_site, graph, "warm")
        for number in range(2 * ROUNDS):
            is_open = number % 2 == 1
            if is_open:
                idle.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                idle.execute("SELECT count(*) FROM statemanager_runs_run")
            rates[is_open].append(_states_per_second(shared_site, graph, f"wide {number}"))
            idle.rollback()
        assert "all counters match their states" in shared_site.command("verify")
    with_snapshot = statistics.median(rates[True])
    without_snapshot = statistics.median(rates[False])
    record_property(
        "report",
        f"while a transaction has a snapshot open, {with_snapshot:,.0f} states/s are claimed and "
        f"recorded, {with_snapshot / without_snapshot:.2f} times those otherwise",
    )
    assert with_snapshot >= 0.5 * without_snapshot, rates


def _states_per_second(opened, graph, key):
    """Start a run that has the installation to itself; return how fast its states are recorded."""
    opened.installation.post(f"/graphs/{graph}/run", {}, key)
    until(lambda: not opened.unfinished(), 120, 0.2)
    [(seconds,)] = opened.read(SECONDS_OF_LAST_RUN)
    return WIDE / float(seconds)
