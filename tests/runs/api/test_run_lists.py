"""`GET /runs`: the filters of the Run Manager's list for keys that may read, by cursor."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from graphs.models import Namespace
from runs.models import Run
from runs.queries import run_cursor
from tests.support.api_client import ApiClient

pytestmark = pytest.mark.django_db
STATUSES = ("completed", "failed", "partial", "running", "cancelled", "completed", "failed")


@pytest.fixture
def api(make_key):
    return ApiClient(make_key("read"))


@pytest.fixture
def stored(namespace):
    """Runs r0, r1, …, the newest first; two of them are equally old. One of another namespace."""
    now = timezone.now()
    other = Namespace.objects.create(name="beta")
    for number, status in enumerate(STATUSES):
        ended = status != "running"
        Run.objects.create(
            namespace=namespace,
            run_id=f"r{number}",
            name="order" if number % 2 else "refund",
            status=status,
            labels={"team": "x"} if number < 3 else {},
            created_at=now - timedelta(hours=max(number, 1)),
            finished_at=now if ended else None,
        )
    Run.objects.create(namespace=other, run_id="other")


def listed(api, query=""):
    status, answer = api("GET", f"/runs?{query}")
    assert status == 200, answer
    return [run["id"] for run in answer["runs"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "r1 r0 r2 r3 r4 r5 r6"),
        ("status=failed", "r1 r6"),
        ("status=error", "r1 r6"),
        ("status=Error,PARTIAL", "r1 r2 r6"),
        ("status=unsuccessful", "r1 r2 r6"),
        ("status=SUCCESS", "r0 r5"),
        ("status=active", "r3"),
        ("search=status:Error", "r1 r6"),
        ("search=status:unsuccessful%20order", "r1"),
        ("label=team%3Dx&search=-status:partial", "r1 r0"),
        ("ordering=time", "r6 r5 r4 r3 r2 r0 r1"),
        ("ordering=-status&limit=2", "r3 r2"),
        ("namespace=beta", ""),
        ("archived=Yes", ""),
    ],
)
def test_a_key_that_may_read_lists_runs_with_the_filters_of_the_list(api, stored, query, expected):
    assert listed(api, query) == expected.split()


@pytest.mark.parametrize("ordering", run_cursor.ORDERINGS)
def test_the_pages_of_a_cursor_hold_each_run_once(api, stored, ordering):
    whole = listed(api, f"ordering={ordering}")
    seen, after = [], ""
    while after is not None:
        status, answer = api("GET", f"/runs?ordering={ordering}&limit=2&after={after}")
        assert status == 200, answer
        seen += [run["id"] for run in answer["runs"]]
        after = answer["next"]
    assert seen == whole


def test_runs_that_come_and_go_move_no_page(api, stored, namespace):
    _, first = api("GET", "/runs?limit=3")
    Run.objects.create(namespace=namespace, run_id="newer")
    Run.objects.filter(run_id__in=["r1", first["runs"][-1]["id"]]).delete()
    assert listed(api, f"after={first['next']}") == ["r3", "r4", "r5", "r6"]


@pytest.mark.parametrize(
    "query",
    [
        "statsu=failed",
        "status=WHAT",
        "ordering=duration",
        "limit=201",
        "limit=0",
        "after=x",
        "page=2",
    ],
)
def test_a_query_that_cannot_be_read_is_refused(api, stored, query):
    status, answer = api("GET", f"/runs?{query}")
    assert (status, bool(answer["detail"])) == (422, True)


def test_a_cursor_is_good_for_its_own_order_only(api, stored):
    _, answer = api("GET", "/runs?limit=1")
    assert api("GET", f"/runs?ordering=status&after={answer['next']}")[0] == 422


def test_a_list_of_runs_costs_the_same_for_one_and_for_seven(api, stored):
    listed(api)
    costs = []
    for limit in (1, 7):
        with CaptureQueriesContext(connection) as queries:
            assert len(listed(api, f"limit={limit}")) == limit
        costs.append(len(queries))
    assert costs[0] == costs[1]


def test_strangers_get_no_list_and_browsers_find_a_run(api, stored, admin_client):
    assert ApiClient()("GET", "/runs")[0] == 401
    run = Run.objects.get(run_id="r3")
    answer = admin_client.get("/runs?runId=r3", headers={"Accept": "text/html,*/*;q=0.1"})
    assert answer.url == f"/admin/run-manager/run/{run.pk}/"
