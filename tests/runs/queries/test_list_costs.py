"""What the Run Manager's list costs, free of noise: the plans of its queries on a table with some thousand runs, and its statements."""

from datetime import timedelta

import pytest
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from runs.core import sql
from runs.manager.list_query import ORDERINGS
from runs.models import Run
from runs.queries import filters, lists, search

pytestmark = pytest.mark.django_db
RUNS = 5000


@pytest.fixture
def many(publish, namespace):
    graph = publish("a")
    now = timezone.now()
    Run.objects.bulk_create(
        Run(
            namespace=namespace, run_id=f"r{at}", name=f"Order {at}", graph=graph, version=graph.current,
            username=f"user{at % 50}", workspace=f"space{at % 50}",
            status="failed" if at % 100 == 7 else "completed", finished_at=now, created_at=now - timedelta(seconds=at),
        )
        for at in range(RUNS)
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            "ANALYZE statemanager_runs_run" if connection.vendor == "postgresql" else "ANALYZE"
        )


def plan_of(queryset):
    return queryset.explain()


def page(query, first=0, ordering="-time"):
    found = filters.RunFilters.of_query(QueryDict(query)).apply(Run.objects.all())
    return lists.run_page(found, first, 50, ORDERINGS[ordering]).values_list("run_id", "status")


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
    ],
)
def test_pages_walk_an_index(many, query, first, ordering, index):
    found = plan_of(page(query, first, ordering))
    assert index in found
    assert "Seq Scan on statemanager_runs_run" not in found
    assert "SCAN statemanager_runs_run\n" not in f"{found}\n"
    if ordering != "-status":
        assert "Sort" not in found.split("Nested")[0].split("Semi")[0] or first, found
        assert "TEMP B-TREE" not in found or first


def test_the_tabs_read_indexes(many):
    found = plan_of(
        Run.objects.filter(archived_at=None).order_by().values_list("status").distinct()
    )
    assert "run_by_status" in found or "run_newest" in found or connection.vendor == "postgresql"
    recovered = plan_of(Run.objects.filter(search.recovered_or_not("no"), archived_at=None))
    assert (
        "run_by_status" in recovered or connection.vendor == "sqlite"
    )  # which knows averages only, and may read all rows
    assert "run_of_tree" in recovered or "MULTI-INDEX" in recovered


def test_names_of_menus_enter_the_index_once_a_value(many):
    prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    found = "\n".join(
        " ".join(map(str, row))
        for row in sql.run(prefix + lists.distinct_statement("username", "true"))
    )
    assert "run_of_user" in found, found
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
