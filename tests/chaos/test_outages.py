"""The database crashes, is full, is busy or cuts its connections while an installation works.

Nothing is lost, nothing is doubled, and no request gets a 500. The PostgreSQL server of these tests
is a server of its own, with durable settings. `--outage-minutes N` crashes it every 5 to 40 s for N
minutes; without it, twice.
"""

import os
import random
import signal
import sqlite3
import statistics
import threading
from collections import defaultdict
from contextlib import closing
from datetime import timedelta
from time import monotonic, sleep

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from graphs.models import Namespace
from graphs.nodes.base import registry
from graphs.services.publish import publish_graph
from runs.cluster.supervisor import MISSED_PROBES
from runs.engine import control
from runs.engine.start import start_run
from runs.models import Cluster, Run, State
from tests.chaos.figures import BACK_SECONDS, GRACE_SECONDS, NOISE_SECONDS
from tests.chaos.installation import SUPERVISORS, Installation, children
from tests.chaos.site import GRAPH, STATES, site, small_disk
from tests.support.clusters import supervised, until
from tests.support.definitions import definition
from tests.support.invariants import assert_counters_agree

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]
WIDE = 6000  # states: about a second of work
ROUNDS = 4

CUT_CONNECTIONS = """
SELECT count(pg_terminate_backend(pid))
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = 'statemanager'
"""
SECONDS_OF_LAST_RUN = """
SELECT extract(epoch FROM finished_at - started_at)
FROM statemanager_runs_run
ORDER BY id DESC
LIMIT 1
"""


@pytest.fixture(scope="module")
def shared_site(django_db_setup, tmp_path_factory):
    """An installation that several tests use, one after the other: making one takes long."""
    with site(tmp_path_factory.mktemp("site")) as opened:
        yield opened


@pytest.mark.only_on("postgresql")
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


@pytest.mark.only_on("postgresql")
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
def test_hosts_whose_clocks_are_an_hour_apart(tmp_path):
    """Leases, wake-ups, probes and schedules use the database's clock, not that of a host."""
    registry.store()
    first_run = start_run(
        publish_graph(Namespace.objects.get_or_create(name="alpha")[0], "g", GRAPH)
    )
    with supervised(workers=1, CLOCK_SKEW="3600"), supervised(workers=1, CLOCK_SKEW="-3600"):
        until(lambda: Cluster.objects.count() == 2)
        until(lambda: Cluster.objects.answered().count() == 2)
        now = timezone.now()
        assert all(
            abs(cluster.started_at - now) < timedelta(minutes=2)
            for cluster in Cluster.objects.all()
        )
        runs = [first_run, *(start_run(first_run.graph) for _ in range(20))]
        workers = set()
        claiming = State.objects.filter(status="QUEUED").values_list("worker", flat=True)
        until(
            lambda: (
                workers.update(claiming.all())
                or not Run.objects.filter(pending_count__gt=0).exists()
            ),
            60,
        )
        # Longer than a cluster may be silent.
        until(_both_clusters_answered_probes(MISSED_PROBES + 2), 60)
        restarts = list(Cluster.objects.values_list("restarts", flat=True))
    assert restarts == [0, 0]
    ended = Run.objects.filter(pk__in=[run.pk for run in runs])
    assert {(run.status, run.error_message) for run in ended} == {("completed", "")}
    states = State.objects.filter(run__in=runs)
    assert set(states.values_list("lost_leases", flat=True)) == {0}, "no lease seemed to be over"
    clusters = {worker.rpartition(":")[0] for worker in workers}
    assert len(clusters) == 2, "both clusters claimed states"


def _both_clusters_answered_probes(number):
    """A condition for `until`: each of two idle clusters has answered more than `number` probes."""
    answers = defaultdict(set)

    def condition():
        for name, seen_at in Cluster.objects.values_list("name", "seen_at"):
            answers[name].add(seen_at)
        return len(answers) == 2 and all(len(times) > number for times in answers.values())

    return condition


@pytest.mark.only_on("postgresql")
def test_connections_are_cut_all_the_time(shared_site):
    total = 0
    for _ in range(4):
        shared_site.start(4)
        total += shared_site.read(CUT_CONNECTIONS)[0][0]
    assert total > 8
    shared_site.assert_all_completed_once()


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


@pytest.mark.only_on("postgresql")
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


@pytest.mark.only_on("sqlite")
def test_sqlite_is_busy(publish, make_key, request):
    """While another process has the write lock, workers wait, and requests wait or get 503."""
    graph = publish("start>out>work>slow>all", **_options())
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
    _assert_all_completed(12 + codes.count(200))


@pytest.mark.only_on("sqlite")
def test_sqlite_is_full(publish):
    """While the file can't grow, states wait; when it can grow again, they continue."""
    graph = publish("start>out>work>slow>all", **_options())
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
    _assert_all_completed(8)


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


def _options():
    """The graph of the site as arguments for the fixture `publish`."""
    kinds, inputs, data = {}, {}, {}
    for node in GRAPH["nodes"]:
        kinds[node["id"]], inputs[node["id"]] = node["kind"], node["data"]["inputs"]
        data[node["id"]] = {key: value for key, value in node["data"].items() if key != "inputs"}
    return {"kinds": kinds, "inputs": inputs, "data": data}


def _assert_all_completed(count):
    runs = list(Run.objects.select_related("version"))
    assert [run.status for run in runs] == ["completed"] * count, [
        run.error_message for run in runs
    ]
    for run in runs:
        assert_counters_agree(run)
        assert {node: counts[1] for node, counts in run.node_counts.items()} == STATES


def test_stops_under_load(publish, database, request, record_property):
    """A deployment stops the working cluster with SIGTERM; 100 times in the long form.

    In every third round the cluster works on a node that does not end within the grace period.
    """
    graph = publish("start>out>work>slow>all", **_options())
    endless = publish(
        "a", name="endless", kinds={"a": "test.sleep"}, inputs={"a": {"seconds": 600}}
    )
    rounds = 100 if request.config.getoption("--outage-minutes") else 3
    # With a lease of a minute, a state that a stop loses would be missing for a minute.
    settings = {"GRACE_SECONDS": str(GRACE_SECONDS), "LEASE_SECONDS": "60"}
    stops = []
    for number in range(rounds):
        with supervised(**settings) as process:
            endless_runs = [start_run(endless)] if number % 3 == 0 else []
            for _ in range(6):
                start_run(graph)
            awaited_runs = endless_runs or Run.objects.filter(graph=graph)
            claimed = State.objects.filter(status="QUEUED", run__in=awaited_runs)
            until(lambda claimed=claimed: claimed.all().exists(), 30, 0.01)
            process.send_signal(signal.SIGTERM)
            stopped_at = monotonic()
            assert process.wait(60) == 0
            stops.append(monotonic() - stopped_at)
        assert not State.objects.filter(status="QUEUED").exists(), "a stop gives back its states"
        assert not _processes_of(process.pid), "a stop leaves no process behind"
        for run in endless_runs:
            control.cancel_run(run, SYSTEM)
    with supervised():
        until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 60, 0.2)
    assert not State.objects.filter(lost_leases__gt=0).exists()
    Run.objects.filter(graph=endless).delete()
    _assert_all_completed(6 * rounds)
    assert max(stops) <= GRACE_SECONDS + NOISE_SECONDS, (
        "a node that does not end within the grace period is ended"
    )
    record_property(
        "report",
        f"{database}: {rounds} stops under load: {6 * rounds} runs, nothing lost, no process left; "
        f"the longest took {max(stops):.1f} s (grace {GRACE_SECONDS} s)",
    )


def _processes_of(supervisor):
    """The process ids of the processes that belong to a supervisor, itself included."""
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and _belongs_to(supervisor, pid)]


def _belongs_to(supervisor, pid):
    cluster = f"STATEMANAGER_CLUSTER={os.uname().nodename}:{supervisor}"
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return cluster.encode() in file.read()
    except OSError:
        return False
