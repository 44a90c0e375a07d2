"""Saved views, columns, the search language, and lists that update themselves."""

import re

import pytest
from django.contrib.auth.models import Permission, User

from graphs.auth.callers import SYSTEM
from runs.actions import delete
from runs.actions.rerun import rerun
from runs.engine.start import RunOptions, start_outside, start_run
from runs.models import ColumnChoice, Run, SavedView
from tests.support.pages import HX, LIST, page_of, text

pytestmark = pytest.mark.django_db


def test_views_are_private_or_shared(admin_client, client, failed):
    admin_client.post(f"{LIST}views/", {"name": "Mine", "query": "?status=failed"})
    admin_client.post(f"{LIST}views/", {"name": "Ours", "query": "?status=partial", "shared": "on"})
    other = User.objects.create_user("other", password="pw", is_staff=True)
    other.user_permissions.add(Permission.objects.get(codename="view_run"))
    client.force_login(other)
    page = text(client.get(LIST))
    assert 'href="/admin/run-manager/?status=partial">Ours</a>' in page
    assert ">Mine</a>" not in page
    ours = SavedView.objects.get(name="Ours")
    assert client.post(f"{LIST}views/{ours.pk}/delete/").status_code == 404
    assert admin_client.post(f"{LIST}views/{ours.pk}/delete/").status_code == 302
    assert not SavedView.objects.filter(shared=True).exists()


def test_columns_are_chosen_and_remembered(admin_client, failed):
    admin_client.post(f"{LIST}columns/", {"column": ["status", "labels", "nonsense"]})
    assert ColumnChoice.objects.get().columns == ["status", "labels"]
    page = text(admin_client.get(LIST))
    assert re.findall(r'<th scope="col" class="rm-(\w+)', page)[1:] == ["name", "status", "labels"]
    assert "There is no column" in text(admin_client.get(f"{LIST}?cols=name,what"))


@pytest.fixture
def many(publish, namespace, run_graph):
    run_graph(
        "a", RunOptions(run_id="order-1", name="Order one", labels={"team": "x"}), name="orders"
    )
    run_graph(
        "a",
        RunOptions(run_id="order-2", name="Order two", labels={"team": "y", "a b__regex": "z"}),
        name="orders",
        kinds={"a": "test.fail"},
    )
    run_graph("a", RunOptions(run_id="health-1", name="Probe", workspace="ops"), name="health")
    start_outside(namespace, RunOptions(run_id="thread_9", name="status:unclear"))
    Run.objects.filter(run_id="health-1").update(created_at="2026-01-05T12:00Z")


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("order", {"order-1", "order-2"}),
        ("order t", {"order-2"}),
        ("order-*", {"order-1", "order-2"}),
        ("*-1", {"order-1", "health-1"}),
        ("status:failed", {"order-2"}),
        ("-status:completed", {"order-2", "thread_9"}),
        ("graph:orders -status:failed", {"order-1"}),
        ("graph:alpha/health", {"health-1"}),
        ("-graph:orders", {"health-1", "thread_9"}),
        ("label:team=x", {"order-1"}),
        ("label:team", {"order-1", "order-2"}),
        ("label:team__regex=x", set()),
        ("workspace:ops", {"health-1"}),
        ("created:2026-01-05", {"health-1"}),
        ("created:>2026-01-05", {"order-1", "order-2", "thread_9"}),
        ("created:<2026-01-06", {"health-1"}),
        ("error:broken", {"order-2"}),
        ("recovered:no", {"order-2"}),
        ("duration:<1h status:ended", {"order-1", "order-2", "health-1"}),
        ("has:rerun", set()),
        ('name:"Order two"', {"order-2"}),
        ("status:unclear", {"thread_9"}),
        ("what:ever", set()),
    ],
)
def test_the_search_language(admin_client, many, search, expected):
    page = admin_client.get(LIST, {"search": search})
    assert set(re.findall(r'<code title="([^"]+)"', text(page))) == expected
    assert ("was searched as text" in text(page)) == (search in ("status:unclear", "what:ever"))


def test_failures_leave_their_tab_when_a_rerun_completes(admin_client, run_graph, drain):
    run = run_graph("a", kinds={"a": "test.fail"})
    page = text(admin_client.get(f"{LIST}?status=failed,partial&recovered=no"))
    assert run.run_id in page
    first_rerun = rerun(run, SYSTEM)
    second_rerun = rerun(first_rerun, SYSTEM)
    Run.objects.filter(pk=second_rerun.pk).update(
        status="completed", finished_at="2026-01-01T00:00Z"
    )
    page = text(admin_client.get(f"{LIST}?status=failed,partial&recovered=no"))
    assert f"run/{run.pk}/" not in page, "the rerun of its rerun has completed"
    assert "recovered by" in text(admin_client.get(page_of(run)))
    tree = text(admin_client.get(page_of(first_rerun, "lineage")))
    assert tree.count('data-label="Run"') == 3


def test_a_poll_of_the_list_costs_one_query_while_nothing_changes(
    admin_client, publish, drain, django_assert_max_num_queries
):
    run = start_run(publish("a"))
    page = text(admin_client.get(LIST))
    poll = re.search(r'id="rm-live" hx-get="([^"]+)"', page)[1].replace("&amp;", "&")
    with django_assert_max_num_queries(3):  # The session, the user, and the runs.
        assert admin_client.get(poll, headers=HX).status_code == 304
    drain()
    other = start_run(publish("b", name="other"))
    part = text(admin_client.get(poll, headers=HX))
    assert f'<tr id="run-{run.pk}"' in part
    assert f'<tr id="run-{other.pk}"' not in part
    assert 'hx-swap-oob="true"' in part
    assert "1 new run · Show" in part
    assert "hx-trigger" not in part, "none of the rows on the page can change any more"


def test_rows_are_sorted_only_by_columns_with_an_index(admin_client, many):
    page = text(admin_client.get(f"{LIST}?ordering=time"))
    assert page.index("health-1") < page.index("thread_9")
    assert 'aria-sort="ascending"' in page
    assert "ordering is one of" in text(admin_client.get(f"{LIST}?ordering=name"))


def test_archived_runs_are_hidden_until_they_are_requested(admin_client, many):
    run = Run.objects.get(run_id="order-1")
    admin_client.post(f"{LIST}run/{run.pk}/archive/")
    assert "order-1" not in text(admin_client.get(LIST))
    assert "1 archived run match" in text(admin_client.get(f"{LIST}?search=order-1"))
    assert "order-1" in text(admin_client.get(f"{LIST}?archived=yes"))
    active = Run.objects.get(run_id="thread_9")
    assert "only runs that have ended are archived" in text(
        admin_client.post(f"{LIST}run/{active.pk}/archive/", follow=True)
    )
    rerun(run, SYSTEM)
    admin_client.post(f"{LIST}run/{run.pk}/unarchive/")
    assert "order-1" in text(admin_client.get(LIST))


def test_an_open_list_removes_the_rows_of_deleted_runs(admin_client, publish, drain):
    graph = publish("a")
    deleted = start_run(graph)
    other = start_run(graph)
    page = text(admin_client.get(LIST))
    poll = re.search(r'id="rm-live" hx-get="([^"]+)"', page)[1].replace("&amp;", "&")
    assert admin_client.get(poll, headers=HX).status_code == 304
    delete.delete_runs([deleted.pk], SYSTEM, even_active=True)
    answer = text(admin_client.get(poll, headers=HX))
    assert f'<tr id="run-{deleted.pk}" hx-swap-oob="delete">' in answer
    assert f'id="run-{other.pk}" hx-swap-oob="delete"' not in answer
    next_poll = re.search(r'id="rm-live"[^>]* hx-get="([^"]+)"', answer)[1].replace("&amp;", "&")
    assert admin_client.get(next_poll, headers=HX).status_code == 304, (
        "the next poll doesn't mention the deleted run again"
    )
