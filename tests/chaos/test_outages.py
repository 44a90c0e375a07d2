"""The database crashes, is full, is busy, or cuts its connections, while an installation works: nothing is lost, nothing is doubled, no request gets a 500.

The PostgreSQL that is hurt is a server of its own, with durable settings. `--outage-minutes N` crashes it every 5 to 40 s for so long; without it twice.
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
from django.db.models import F
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
from tests.chaos.installation import Installation
from tests.chaos.site import GRAPH, STATES, site, small_disk
from tests.support.clusters import supervised, until
from tests.support.definitions import definition
from tests.support.invariants import assert_counters_agree

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]
WIDE, ROUNDS = 6000, 4  # about a second of work each


@pytest.fixture(scope="module")
def place(django_db_setup, tmp_path_factory):
    """An installation that several tests may hurt, one after the other. Making one takes long."""
    with site(tmp_path_factory.mktemp("site")) as made:
        yield made


def test_postgresql_crashes_again_and_again(database, request, record_property):
    """Crashes are immediate stops, with no time to write anything."""
    if database != "postgresql":
        return
    minutes, chance, backs = request.config.getoption("--outage-minutes"), random.Random(7), []
    place = request.getfixturevalue("place")
    until_ = monotonic() + 60 * minutes
    while len(backs) < 2 or monotonic() < until_:
        place.ask(12)
        sleep(
            chance.uniform(5, 40) if minutes else chance.uniform(0.3, 0.6)
        )  # the moment is what is random
        if not place.unfinished():
            place.ask(12)
        place.server.stop("immediate")
        sleep(chance.uniform(0, 2))
        place.server.start()
        began = monotonic()
        moment = place.read("SELECT now()")[0][0].isoformat()
        until(
            lambda moment=moment: (
                place.installation.revive()
                or place.read(
                    f"SELECT count(*) FROM statemanager_runs_state WHERE finished_at > '{moment}'"
                )[0][0]
            ),
            60,
        )
        backs.append(monotonic() - began)
    place.check()
    assert max(backs) <= BACK_SECONDS + NOISE_SECONDS, backs
    record_property(
        "report",
        f"PostgreSQL crashed {len(backs)} times: {place.asked} runs, none lost or doubled; back at most {max(backs):.1f} s after it",
    )


def test_the_disk_of_postgresql_is_full(tmp_path, database):
    """Requests get an answer that says so, and the work goes on when there is room again."""
    if database != "postgresql":
        return
    with (
        small_disk(400) as disk,
        site(
            tmp_path,
            parent=disk,
            settings=("max_wal_size=64MB", "min_wal_size=32MB", "wal_recycle=off"),
        ) as place,
    ):
        place.ask(6)
        filler = disk / "filler"
        with filler.open("wb") as file, pytest.raises(OSError, match="No space left"):  # noqa: PT012
            while True:
                file.write(b"x" * 2**20)
                file.flush()
        codes = {
            place.installation.code(
                f"/graphs/{place.graph}/run", {"inputs": {"text": "x" * 400_000}}
            )
            for _ in range(60)
        }
        assert codes <= {200, 201, 202, 503, 507}, codes
        assert codes & {503, 507}, "the disk never was full"
        filler.unlink()
        place.server.revive()
        place.asked = place.read("SELECT count(*) FROM statemanager_runs_run")[0][0]
        place.ask(6)
        place.check()


def test_hosts_whose_clocks_are_an_hour_apart(tmp_path, database):
    """Leases, wake-ups, probes and schedules go by the database's clock; what a host believes changes nothing."""
    if database != "postgresql":
        return
    registry.store()
    run = start_run(publish_graph(Namespace.objects.get_or_create(name="alpha")[0], "g", GRAPH))
    with supervised(workers=1, CLOCK_SKEW="3600"), supervised(workers=1, CLOCK_SKEW="-3600"):
        graph = run.graph
        until(lambda: Cluster.objects.count() == 2)
        until(lambda: Cluster.objects.filter(seen_at__gt=F("started_at")).count() == 2)
        now = timezone.now()
        assert all(
            abs(each.started_at - now) < timedelta(minutes=2) for each in Cluster.objects.all()
        )
        runs, holders = [run, *(start_run(graph) for _ in range(20))], set()
        held = State.objects.filter(status="QUEUED").values_list("worker", flat=True)
        until(
            lambda: (
                holders.update(held.all()) or not Run.objects.filter(pending_count__gt=0).exists()
            ),
            60,
        )
        until(_probes_answered(MISSED_PROBES + 2), 60)  # longer than a cluster may be silent
        restarts = list(Cluster.objects.values_list("restarts", flat=True))
    assert restarts == [0, 0]
    assert {
        (each.status, each.error_message)
        for each in Run.objects.filter(pk__in=[run.pk for run in runs])
    } == {("completed", "")}
    states = State.objects.filter(run__in=runs)
    assert set(states.values_list("lost_leases", flat=True)) == {0}, "no lease was taken for over"
    assert len({worker.rpartition(":")[0] for worker in holders}) == 2, "both had their part"


def _probes_answered(number):
    """A condition: each of two clusters, which have nothing else to do, was seen so many times more."""
    seen = defaultdict(set)

    def condition():
        for name, at in Cluster.objects.values_list("name", "seen_at"):
            seen[name].add(at)
        return len(seen) == 2 and all(len(moments) > number for moments in seen.values())

    return condition


def test_connections_are_cut_all_the_time(request, database):
    """Every connection is terminated by the server, several times."""
    if database != "postgresql":
        return
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = 'statemanager'"
    place = request.getfixturevalue("place")
    total = 0
    for _ in range(4):
        place.ask(4)
        total += place.read(cut)[0][0]
    assert total > 8
    place.check()


def test_no_connection_is_left(tmp_path, database):
    """Requests get 503, the work goes on when there are some again."""
    if database != "postgresql":
        return
    with site(
        tmp_path, settings=("max_connections=20", "superuser_reserved_connections=3")
    ) as place:
        place.server.execute("CREATE ROLE plain LOGIN; GRANT ALL ON DATABASE statemanager TO plain")
        place.ask(6)
        mine = []
        try:
            while len(mine) < 20:
                mine.append(psycopg.connect(place.server.url.replace("statemanager@", "plain@")))
        except psycopg.OperationalError as full:
            assert "remaining connection slots" in str(full) or "too many clients" in str(full), (
                full
            )
        try:
            codes = {place.installation.code("/graphs") for _ in range(12)}
            assert codes <= {200, 503}, codes
        finally:
            for each in mine:
                each.close()
        place.ask(6)
        place.check()


def test_somebody_holds_a_snapshot(request, database, record_property):
    """A transaction that stays open slows cleaning, not claiming. Rounds with and without one take turns, so that both meet the same machine."""
    if database != "postgresql":
        return
    rates, wide = (
        {True: [], False: []},
        definition(
            "start>out>each", kinds={"out": "test.each"}, inputs={"out": {"items": [*range(WIDE)]}}
        ),
    )
    place = request.getfixturevalue("place")
    with psycopg.connect(place.server.url) as idle:
        graph = place.installation.post(
            "/graphs", {"name": "wide", "namespace": "alpha", **wide}, "wide"
        )["id"]
        _rate(place, graph, "warm")
        for number in range(2 * ROUNDS):
            if held := number % 2 == 1:
                idle.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                idle.execute("SELECT count(*) FROM statemanager_runs_run")
            rates[held].append(_rate(place, graph, f"wide {number}"))
            idle.rollback()
        assert "every count is that of the rows" in place.command("verify")
    under, without = statistics.median(rates[True]), statistics.median(rates[False])
    record_property(
        "report",
        f"while somebody holds a snapshot {under:,.0f} states/s are claimed and recorded, {under / without:.2f} times those otherwise",
    )
    assert under >= 0.5 * without, rates


def _rate(place, graph, key):
    """How many states a second are claimed and recorded, of a run that begins now and has the installation to itself."""
    place.installation.post(f"/graphs/{graph}/run", {}, key)
    until(lambda: not place.unfinished(), 120, 0.2)
    [(seconds,)] = place.read(
        "SELECT extract(epoch FROM finished_at - started_at) FROM statemanager_runs_run ORDER BY id DESC LIMIT 1"
    )
    return WIDE / float(seconds)


def test_sqlite_is_busy(publish, database, make_key, request):
    """Another process holds the write lock; requests wait or get 503, workers wait."""
    if database != "sqlite":
        return
    graph = publish("start>out>work>slow>all", **_options())
    seconds = 30 if request.config.getoption("--outage-minutes") else 4
    installation = Installation(make_key("admin"))
    try:
        for number in range(6):
            installation.post(f"/graphs/{graph.pk}/run", {}, f"before {number}")
        codes = []
        with closing(
            sqlite3.connect(connection.settings_dict["NAME"], timeout=30, isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            asking = threading.Thread(
                target=lambda: codes.append(installation.code(f"/graphs/{graph.pk}/run", {}))
            )
            asking.start()
            released = monotonic() + seconds
            until(lambda: monotonic() > released, seconds + 5)
            other.execute("ROLLBACK")
            asking.join()
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
    _all_completed(12 + codes.count(200))


def test_sqlite_is_full(publish, database):
    """The file can't grow; states wait, and go on when it can."""
    if database != "sqlite":
        return
    graph = publish("start>out>work>slow>all", **_options())
    runs = [start_run(graph) for _ in range(8)]
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
    with supervised(MAX_PAGES=str(pages + 2)):
        until(lambda: State.objects.filter(attempt__gt=0).exists(), 20)
        still, since = -1, monotonic()
        while monotonic() - since < 3:  # until nothing more can be recorded
            now = State.objects.count()
            still, since = (now, monotonic()) if now != still else (still, since)
            sleep(0.2)
    assert Run.objects.filter(pending_count__gt=0).exists(), "there was no room for all"
    for run in runs:
        run.refresh_from_db()
        assert run.status in ("queued", "running", "completed"), "nothing failed for want of room"
        assert_counters_agree(run)
    with supervised():
        until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 90, 0.2)
    _all_completed(8)


def _options():
    kinds, inputs, data = {}, {}, {}
    for node in GRAPH["nodes"]:
        kinds[node["id"]], inputs[node["id"]] = node["kind"], node["data"]["inputs"]
        data[node["id"]] = {key: value for key, value in node["data"].items() if key != "inputs"}
    return {"kinds": kinds, "inputs": inputs, "data": data}


def _all_completed(count):
    runs = list(Run.objects.select_related("version"))
    assert [run.status for run in runs] == ["completed"] * count, [
        run.error_message for run in runs
    ]
    for run in runs:
        assert_counters_agree(run)
        assert {node: counts[1] for node, counts in run.node_counts.items()} == STATES


def test_stops_under_load(publish, database, request, record_property):
    """A deploy stops the cluster with SIGTERM while it works; 100 times in the long form. In each third it holds what doesn't end within the grace."""
    graph = publish("start>out>work>slow>all", **_options())
    endless = publish(
        "a", name="endless", kinds={"a": "test.sleep"}, inputs={"a": {"seconds": 600}}
    )
    rounds, stops = (100 if request.config.getoption("--outage-minutes") else 3), []
    for number in range(rounds):
        with supervised(
            GRACE_SECONDS=str(GRACE_SECONDS), LEASE_SECONDS="60"
        ) as process:  # what a stop loses would be missed for a minute
            late = [start_run(endless)] if number % 3 == 0 else []
            for _ in range(6):
                start_run(graph)
            until(
                lambda late=late: State.objects.filter(
                    status="QUEUED", run__in=late or Run.objects.filter(graph=graph)
                ).exists(),
                30,
                0.01,
            )
            process.send_signal(signal.SIGTERM)
            began = monotonic()
            assert process.wait(60) == 0
            stops.append(monotonic() - began)
        assert not State.objects.filter(status="QUEUED").exists(), "a stop gives back what it holds"
        assert not [
            pid for pid in os.listdir("/proc") if pid.isdigit() and _is_ours(pid, process.pid)
        ]
        for run in late:
            control.cancel_run(run, SYSTEM)
    with supervised():
        until(lambda: not Run.objects.filter(pending_count__gt=0).exists(), 60, 0.2)
    assert not State.objects.filter(lost_leases__gt=0).exists()
    Run.objects.filter(graph=endless).delete()
    _all_completed(6 * rounds)
    assert max(stops) <= GRACE_SECONDS + NOISE_SECONDS, (
        "what does not end within the grace is ended"
    )
    said = f"{rounds} stops under load: {6 * rounds} runs, nothing lost, no process left"
    record_property(
        "report",
        f"{database}: {said}; the longest took {max(stops):.1f} s (grace {GRACE_SECONDS} s)",
    )


def _is_ours(pid, supervisor):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return (
                f"STATEMANAGER_CLUSTER={os.uname().nodename}:{supervisor}".encode() in file.read()
            )
    except OSError:
        return False
