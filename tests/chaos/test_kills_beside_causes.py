"""Random processes are killed while the database itself is in trouble.

Nothing is lost, doubled or wrong, no process ends by itself, and work goes on soon after the
trouble is over. The kills are shared by five kinds of trouble. The long form, with 300 beside each,
is `pytest tests/chaos/test_kills_beside_causes.py --chaos-kills 1500`.
"""

import random
from collections import Counter
from contextlib import ExitStack, contextmanager
from time import monotonic, sleep

import psycopg
import pytest

from tests import postgres
from tests.chaos.figures import NOISE_SECONDS
from tests.chaos.site import STATES, site, small_disk
from tests.support.clusters import until
from tests.support.silent_path import path_to

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.chaos,
    pytest.mark.only_on("postgresql"),
]
UNFINISHED = 12
KILLS_IN_A_ROUND = 10
BACK_SECONDS = 30

FINISHED_SINCE = """
SELECT count(*)
FROM statemanager_runs_state
WHERE finished_at > now() - make_interval(secs => {})
"""
GIVEN_UP = """
SELECT DISTINCT run_id
FROM statemanager_runs_state
WHERE status = 'TIMEDOUT' AND lost_leases = 3
"""
OTHER_FAILURES = """
SELECT identifier, status, lost_leases, error
FROM statemanager_runs_state
WHERE status <> 'SUCCESS' AND NOT (status = 'TIMEDOUT' AND lost_leases = 3)
  AND status <> 'RETRY_CREATED'
"""


class Cause:
    """One kind of trouble. `trouble` is a context in which it lasts."""

    env: dict[str, str] = {}

    def __init__(self, stack):
        self.server = self.make_server(stack)

    def make_server(self, stack):
        return postgres.Server(quick=False)


class ReadOnly(Cause):
    """The server may only be read."""

    @contextmanager
    def trouble(self, opened):
        set_read_only = "ALTER DATABASE statemanager SET default_transaction_read_only = {}"
        self.server.execute(set_read_only.format("on"))
        # Sessions that are open keep their setting until they are cut; both kinds occur.
        yield
        self.server.execute(set_read_only.format("off"))
        opened.cut_connections()


class Replica(Cause):
    """The primary crashes, and a synchronous replica takes over."""

    @contextmanager
    def trouble(self, opened):
        replica = self.server.standby()
        self.server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.server.execute("SELECT pg_reload_conf()")
        opened.start(2)  # committed on both
        position = self.server.read("SELECT pg_current_wal_lsn()")
        until(lambda: replica.has_replayed(position), 20)
        port, old = self.server.port, self.server
        old.stop("immediate")
        replica.stop("fast")
        yield
        replica.promote(port)
        replica.execute("ALTER SYSTEM RESET synchronous_standby_names")
        replica.execute("SELECT pg_reload_conf()")
        opened.server = self.server = replica
        old.close()


class SilentPath(Cause):
    """The path takes what is sent and never answers; its old connections never do again."""

    def make_server(self, stack):
        server = super().make_server(stack)
        self.path = stack.enter_context(path_to(server.port))
        self.env = {"DATABASE_URL": server.url.replace(f":{server.port}/", f":{self.path.port}/")}
        return server

    @contextmanager
    def trouble(self, opened):
        self.path.fall_silent()
        yield
        self.path.resume()


class FullDisk(Cause):
    """The disk of the server is full."""

    def make_server(self, stack):
        self.disk = stack.enter_context(small_disk(400))
        settings = ("max_wal_size=64MB", "min_wal_size=32MB", "wal_recycle=off")
        return postgres.Server(quick=False, parent=self.disk, settings=settings)

    @contextmanager
    def trouble(self, opened):
        filler = self.disk / "filler"
        with filler.open("wb") as file, pytest.raises(OSError, match="No space left"):  # noqa: PT012
            while True:
                file.write(b"x" * 2**20)
                file.flush()
        yield
        filler.unlink()
        self.server.revive()


class LockedRow(Cause):
    """Somebody's transaction has locked a third of the runs."""

    @contextmanager
    def trouble(self, opened):
        with psycopg.connect(self.server.url) as other:
            other.execute("SELECT 1 FROM statemanager_runs_run WHERE id % 3 = 0 FOR UPDATE")
            yield


CAUSES = [ReadOnly, Replica, SilentPath, FullDisk, LockedRow]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__)
def test_kills_beside_trouble(cause, tmp_path, request, record_property):
    kills = request.config.getoption("--chaos-kills") // len(CAUSES)
    chance = random.Random(11)
    roles, waits = Counter(), []
    with ExitStack() as stack:
        trouble = cause(stack)
        opened = stack.enter_context(site(tmp_path, trouble.env, trouble.server))
        while roles.total() < kills:
            fill_up(opened)
            number = min(KILLS_IN_A_ROUND, kills - roles.total())
            roles += kill(opened, number // 2, chance, opened.victims)
            with trouble.trouble(opened):
                # Which workers are busy isn't known while the database can't be asked.
                roles += kill(opened, number - number // 2, chance, opened.installation.idle)
            waits.append(seconds_until_work(opened))
        fill_up(opened)
        assert_all_ended_rightly(opened, kills)
        assert opened.installation.ended == [], "no process ends by itself"
    assert max(waits) <= BACK_SECONDS + NOISE_SECONDS, waits
    record_property(
        "report",
        f"{cause.__name__}: {kills} kills ({dict(roles)}) in {len(waits)} rounds, "
        f"{opened.started} runs; work went on after {max(waits):.1f} s at most",
    )


def fill_up(opened):
    opened.start(max(1, UNFINISHED - opened.unfinished()))


def kill(opened, number, chance, victims):
    """Kill so many of the processes that `victims` returns, {pid: role}."""
    roles = Counter()
    while roles.total() < number:
        sleep(chance.uniform(0.3, 1.2))  # the moment of the kill is what is random
        pid, role = chance.choice(sorted(victims().items()))
        if opened.installation.kill(pid):
            roles[role] += 1
        opened.installation.revive()
    return roles


def seconds_until_work(opened):
    """The seconds until a state is finished after now."""
    began = monotonic()

    def has_worked():
        opened.installation.revive()
        return opened.read(FINISHED_SINCE.format(monotonic() - began))[0][0]

    fill_up(opened)
    until(has_worked, 90, 0.2)
    return monotonic() - began


def assert_all_ended_rightly(opened, kills):
    """Every run has ended with all its states, but for states that lost three workers."""
    until(lambda: opened.installation.revive() or not opened.unfinished(), 180, 0.3)
    assert opened.read(OTHER_FAILURES) == []
    incomplete = len(opened.read(GIVEN_UP))
    assert incomplete * 10 <= opened.started + kills
    runs = dict(opened.read("SELECT status, count(*) FROM statemanager_runs_run GROUP BY 1"))
    assert sum(runs.values()) == opened.started, "one run for each Idempotency-Key"
    assert runs["completed"] == opened.started - incomplete
    succeeded = opened.read(
        "SELECT s.identifier, count(*), count(DISTINCT (s.run_id, s.path))"
        " FROM statemanager_runs_state s JOIN statemanager_runs_run r ON r.id = s.run_id"
        " WHERE s.status = 'SUCCESS' AND r.status = 'completed' GROUP BY 1"
    )
    assert set(succeeded) == {
        (node, states * runs["completed"], states * runs["completed"])
        for node, states in STATES.items()
    }
    assert "all counters match their states" in opened.command("verify")
