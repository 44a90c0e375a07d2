"""What the list of runs costs, counted rather than timed.

The tests check the plans of its queries on a table of some thousand runs, and the number of its
statements.
"""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from graphs.models import Namespace
from graphs.services.publish import publish_graph
from runs.core import sql
from runs.models import Run
from runs.queries import filters, lists, orderings, run_cursor, search
from runs.queries.orderings import ORDERINGS
from tests.support.definitions import definition

pytestmark = pytest.mark.django_db
RUNS = 5000


@pytest.fixture(scope="module")
def runs_of_module(django_db_setup, django_db_blocker):
    """Storing the runs takes longer than any test: they are stored once, in a transaction."""
    with django_db_blocker.unblock(), transaction.atomic():
        namespace = Namespace.objects.create(name="many")
        graph = publish_graph(namespace, "many", definition("a"))
        store_runs(namespace, graph)
        yield namespace
        transaction.set_rollback(True)


def store_runs(namespace, graph):
    """Enough runs, and statistics about them, for the planner to prefer an index."""
    now = timezone.now()
    Run.objects.bulk_create(
        Run(
            namespace=namespace,
            run_id=f"r{at}",
            name=f"Order {at}",
            graph=graph,
            version=graph.current,
            username=f"user{at % 50}",
            workspace=f"space{at % 50}",
            status="failed" if at % 100 == 7 else "completed",
            finished_at=now,
            created_at=now - timedelta(seconds=at),
        )
        for at in range(RUNS)
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "ANALYZE statemanager_runs_run" if connection.vendor == "postgresql" else "ANALYZE"
        )


@pytest.fixture
def many(runs_of_module, db):
    return runs_of_module


def page(query, first=0, ordering="-time"):
    filtered = filters.RunFilters.of_query(QueryDict(query)).apply(Run.objects.all(), SYSTEM)
    return lists.run_page(filtered, first, 50, ORDERINGS[ordering]).values_list("run_id", "status")


@pytest.mark.parametrize(
    ("query", "first", "ordering", "index"),
    [
        ("", 0, "-time", "run_newest"),
        ("", 4000, "-time", "run_newest"),
        ("", 0, "time", "run_newest"),
        ("archived=yes", 0, "-time", "run_archived"),
        ("status=failed", 0, "-status", "run_by_status"),
        ("username=user7", 0, "-time", "run_of_user"),
        ("workspace=space7", 0, "-time", "run_of_workspace"),
        ("", 0, "id", "run_by_thread"),
        ("", 0, "-id", "run_by_thread"),
        ("", 0, "name", "run_by_name"),
        ("", 0, "-name", "run_by_name"),
        ("", 0, "finished", "run_by_finish"),
        ("", 0, "-finished", "run_by_finish"),
        ("", 0, "username", "run_of_user"),
        ("", 0, "-workspace", "run_of_workspace"),
    ],
)
def test_pages_are_read_from_an_index(many, query, first, ordering, index):
    plan = page(query, first, ordering).explain()
    assert index in plan
    assert "Seq Scan on statemanager_runs_run" not in plan
    assert "SCAN statemanager_runs_run\n" not in f"{plan}\n"
    if ordering.endswith("time") and not first:
        assert "Sort" not in plan.split("Nested")[0].split("Semi")[0], plan
        assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(("ordering", "index"), [("-time", "run_newest"), ("time", "run_newest")])
def test_a_page_behind_a_cursor_is_read_from_an_index(many, ordering, index):
    runs = filters.RunFilters.of_query(QueryDict("")).apply(Run.objects.all(), SYSTEM)
    [middle] = run_cursor.page_after(runs, ordering, "", RUNS)[RUNS // 2 : RUNS // 2 + 1]
    cursor = run_cursor.cursor_of(middle, ordering)
    following = run_cursor.page_after(runs, ordering, cursor, 50)
    plan = following.explain()
    assert index in plan
    assert not [word for word in ("Sort", "TEMP B-TREE", "Seq Scan") if word in plan], plan
    assert "created_at" in plan or "Index Cond" in plan, "the index is entered at the cursor"


def test_the_counts_of_the_tabs_are_read_from_indexes(many):
    statuses = Run.objects.filter(archived_at=None).order_by().values_list("status").distinct()
    plan = statuses.explain()
    assert "run_by_status" in plan or "run_newest" in plan or connection.vendor == "postgresql"

    plan = Run.objects.filter(search.recovered_or_not("no"), archived_at=None).explain()
    # SQLite knows only averages of a column, and may read all rows.
    assert "run_by_status" in plan or connection.vendor == "sqlite"
    assert "run_of_tree" in plan or "MULTI-INDEX" in plan


def test_the_names_in_menus_are_read_from_an_index(many):
    prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    rows = sql.run(prefix + lists.distinct_statement("username", "true"), ["", 100])
    plan = "\n".join(" ".join(map(str, row)) for row in rows)
    assert "run_of_user" in plan, plan
    assert lists.distinct(SYSTEM, "username")[:3] == ["user0", "user1", "user10"]
    assert len(lists.distinct(SYSTEM, "workspace")) == 50


def test_a_page_costs_the_same_number_of_statements_for_5_and_for_200_runs(many, admin_client):
    admin_client.get("/admin/run-manager/")
    costs = []
    for size in (5, 200):
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(f"/admin/run-manager/?page_size={size}")
        costs.append(len(queries))
    assert costs[0] == costs[1]


def test_no_ordering_reads_more_runs_than_may_be_sorted(many, admin_client, monkeypatch):
    monkeypatch.setattr(orderings, "MAX_SORTED", 100)
    api, listed = "/admin/run-manager/runs", "/admin/run-manager/"
    for name in ORDERINGS:
        indexed = name.removeprefix("-") in orderings.INDEXED
        assert admin_client.get(f"{api}?ordering={name}").status_code == (200 if indexed else 422)
        page = admin_client.get(f"{listed}?ordering={name}").content.decode()
        assert ("too many to sort" in page) != indexed
        few = f"ordering={name}&status=failed"
        assert admin_client.get(f"{api}?{few}").status_code == 200
        assert "too many to sort" not in admin_client.get(f"{listed}?{few}").content.decode()
    body = {"action": "export", "filter": {}, "params": {"ordering": "duration"}}
    answer = admin_client.post(f"{listed}bulk-operations", body, content_type="application/json")
    assert (answer.status_code, "too many" in answer.content.decode()) == (422, True)
