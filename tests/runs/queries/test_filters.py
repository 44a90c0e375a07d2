"""The filters of runs have the same meaning on pages, in the API and in bulk operations."""

import json
from datetime import datetime, timedelta

import pytest
from django.http import QueryDict
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from runs.actions import bulk, export
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside
from runs.manager.list_query import OTHER_PARAMETERS
from runs.manager.run_list import RunPage
from runs.models import Run
from runs.queries import lists, search
from runs.queries.filters import InvalidFilters, RunFilters

pytestmark = pytest.mark.django_db
LIST = "/admin/run-manager/"


@pytest.fixture
def runs(namespace):
    """A completed, a failed, an archived and an active run."""
    now = timezone.now()
    for number, status in enumerate(("completed", "failed", "completed", "running")):
        options = RunOptions(run_id=f"r{number}", workspace=f"w{number % 2}", labels={"team": "x"})
        run = start_outside(namespace, options)
        Run.objects.filter(pk=run.pk).update(
            status=status,
            finished_at=None if status == "running" else now,
            archived_at=now if number == 2 else None,
            username="ann" if number else "bob",
        )


def runs_of_page(query):
    return {run.run_id for run in RunPage(SYSTEM, QueryDict(query)).filtered}


def runs_of_api(admin_client, query):
    return {row["id"] for row in admin_client.get(f"{LIST}runs?{query}").json()["runs"]}


def runs_of_export(admin_client, query):
    lines = admin_client.get(f"{LIST}export.jsonl?{query}").getvalue().decode().splitlines()
    return {json.loads(line)["run_id"] for line in lines}


def runs_of_bulk(query):
    filters = dict(QueryDict(query).lists())
    operation = bulk.ask("label", filters, SYSTEM, {"add": {"seen": "yes"}})
    return {run.run_id for run in bulk.targets(operation.query, SYSTEM)}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"r0", "r1", "r3"}),
        ("status=", {"r0", "r1", "r3"}),
        ("status=failed,running", {"r1", "r3"}),
        ("archived=yes", {"r2"}),
        ("archived=yes,no", {"r0", "r1", "r2", "r3"}),
        ("archived=yes,no&workspace=w0", {"r0", "r2"}),
        ("username=bob&since=1h", {"r0"}),
        ("label=team%3Dx&search=-status:completed", {"r1", "r3"}),
        ("recovered=no", {"r1"}),
        ("created_after=2999-01-01T00:00:00Z", set()),
    ],
)
def test_the_same_filters_find_the_same_runs_everywhere(runs, admin_client, query, expected):
    assert runs_of_page(query) == expected
    assert runs_of_api(admin_client, query) == expected
    assert runs_of_export(admin_client, query) == expected
    assert runs_of_bulk(query) == expected


@pytest.mark.parametrize(
    "query",
    [
        "statsu=failed",
        "status=WHAT",
        "since=abc",
        "recovered=maybe",
        "status=failed&status=running",
        "search=a&search=b",
        f"search={'a' * (search.MAX_LENGTH + 1)}",
    ],
    ids=lambda query: query[:20],
)
def test_a_filter_that_cannot_be_read_is_refused_everywhere(runs, admin_client, query):
    name = query.partition("=")[0]
    page = RunPage(SYSTEM, QueryDict(query))
    assert page.filtered.count() == 3
    assert any(name in notice for notice in page.notices), (
        "the page mentions the filter that it ignores"
    )
    answer = admin_client.get(f"{LIST}runs?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", name]
    with pytest.raises(InvalidFilters, match=name):
        bulk.ask("archive", dict(QueryDict(query).lists()), SYSTEM)


def test_stored_filters_mean_the_same_runs_later(runs):
    filters = RunFilters.of_query(QueryDict("since=1h&created_after=2026-01-01T00:00:00Z"))
    stored = filters.frozen()
    assert stored.keys() == {"created_after"}
    age = timezone.now() - datetime.fromisoformat(stored["created_after"][0])
    assert timedelta(minutes=59) < age < timedelta(minutes=61), "the later of the two times counts"


def test_page_and_api_share_the_cached_total():
    page = RunPage(SYSTEM, QueryDict("page=2&page_size=25&status=failed&cols=name"))
    api = RunFilters.of_query(QueryDict("status=failed&page=1&count=all"), ("page", "count"))
    assert page.run_filters.cache_key(SYSTEM) == api.cache_key(SYSTEM)


def test_parameters_of_the_page_are_not_filters():
    assert not RunFilters.of_query(
        QueryDict("&".join(f"{name}=1" for name in OTHER_PARAMETERS)), OTHER_PARAMETERS
    ).unknown


def test_page_sizes_are_the_same_on_the_page_and_in_the_api(runs, admin_client):
    sizes = [*lists.PAGE_SIZES, 1, lists.MAX_PAGE_SIZE + 1, 0]
    for size in sizes:
        allowed = 1 <= size <= lists.MAX_PAGE_SIZE
        page = RunPage(SYSTEM, QueryDict(f"page_size={size}"))
        assert page.size == (size if allowed else lists.DEFAULT_PAGE_SIZE)
        answer = admin_client.get(f"{LIST}runs?page_size={size}")
        assert (answer.status_code == 200) == allowed
    assert admin_client.get(f"{LIST}runs").json()["page_size"] == lists.DEFAULT_PAGE_SIZE


def test_export_formats_are_the_same_on_the_page_and_in_bulk_operations(runs, admin_client):
    page = admin_client.get(LIST).content.decode()
    form = admin_client.post(f"{LIST}bulk/export/", {"all": "1", "back": LIST}).content.decode()
    for name, file_format in export.FORMATS.items():
        answer = admin_client.get(f"{LIST}export.{name}")
        assert answer["Content-Type"] == file_format.content_type
        assert f"export.{name}" in page
        assert f'name="format" value="{name}"' in form
        assert len(answer.getvalue().splitlines()) == 3 + file_format.other_lines
