"""Saved views, columns, the search language, and lists that update themselves."""

import re

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from graphs.auth.callers import SYSTEM
from graphs.models import Namespace, NamespaceMembership
from runs.actions import delete
from runs.actions.rerun import rerun
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.models import ColumnChoice, Run, SavedView
from tests.support.api_client import ApiClient
from tests.support.pages import HX, LIST, page_of, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(namespace):
    """person(name, role, namespace=…): a client of a new user, with a role in a namespace."""

    def make(name, role, *places):
        user = User.objects.create_user(name, is_staff=True)
        for place in places or (namespace,):
            NamespaceMembership.objects.create(namespace=place, user=user, role=role)
        client = Client()
        client.force_login(user, "django.contrib.auth.backends.ModelBackend")
        return client

    return make


def share(client, name, **form):
    """Save a view as a page does."""
    return client.post(f"{LIST}views/", {"name": name, "query": "?status=failed", **form})


def views_of(client):
    """The names of the views that a user sees, which the page and the API agree on."""
    page = text(client.get(LIST))
    by_api = client.get(f"{LIST}saved-views").json()["views"]
    names = {view["name"] for view in by_api}
    assert set(re.findall(r">(v-[a-z-]+)</a>", page)) == names
    return names


def test_views_are_private_or_shared_with_those_who_see_the_namespace(person, admin_client):
    beta = Namespace.objects.create(name="beta")
    ann, bob, ben = (
        person("ann", "viewer"), person("bob", "viewer"), person("ben", "viewer", beta)
    )  # fmt: skip
    share(ann, "v-mine")
    share(ann, "v-ours", shared="on", namespace="alpha")
    share(admin_client, "v-of-admins", shared="on")
    share(admin_client, "v-in-beta", shared="on", namespace="beta")
    share(ben, "v-not-there", shared="on", namespace="alpha")
    assert views_of(ann) == {"v-mine", "v-ours"}
    assert views_of(bob) == {"v-ours"}
    assert views_of(ben) == {"v-in-beta"}
    assert views_of(admin_client) == {"v-ours", "v-of-admins", "v-in-beta"}


def test_a_key_lists_the_views_that_are_shared_where_it_opens(person, make_key, namespace):
    beta = Namespace.objects.create(name="beta")
    share(person("ann", "viewer"), "v-alpha", shared="on", namespace="alpha")
    share(person("ben", "viewer", beta), "v-beta", shared="on", namespace="beta")
    views = ApiClient(make_key("admin"))("GET", f"{LIST}saved-views")[1]["views"]
    assert [(view["name"], view["namespace"]) for view in views] == [("v-alpha", "alpha")]


def delete_by_page(client, pk):
    return client.post(f"{LIST}views/{pk}/delete/").status_code


def delete_by_api(client, pk):
    return client.delete(f"{LIST}saved-views/{pk}").status_code


@pytest.mark.parametrize("delete_view", [delete_by_page, delete_by_api])
def test_only_those_who_may_change_runs_there_delete_a_view_of_others(
    person, admin_client, delete_view
):
    beta = Namespace.objects.create(name="beta")
    ann, viewer = person("ann", "viewer"), person("bob", "viewer")
    operator, elsewhere = person("eve", "operator"), person("joe", "operator", beta)
    share(ann, "v-mine")
    share(ann, "v-ours", shared="on", namespace="alpha")
    share(ann, "v-ours-too", shared="on", namespace="alpha")
    mine, ours, too = SavedView.objects.order_by("name")
    for client in (viewer, operator, elsewhere, admin_client):
        assert delete_view(client, mine.pk) == 404
    for client in (viewer, elsewhere):
        assert delete_view(client, ours.pk) == 404
    assert delete_view(operator, ours.pk) < 400
    assert delete_view(ann, too.pk) < 400
    assert delete_view(ann, mine.pk) < 400
    assert not SavedView.objects.exists()


def test_a_view_of_the_same_name_is_another_view_of_another_person(person):
    ann, bob = person("ann", "operator"), person("bob", "operator")
    share(ann, "v-same", shared="on", namespace="alpha")
    share(bob, "v-same", query="?status=running")
    assert SavedView.objects.get(owner__username="ann").query == "status=failed"


def test_who_sees_several_namespaces_says_where_a_view_is_shared(person, namespace):
    both = person("ann", "viewer", namespace, Namespace.objects.create(name="beta"))
    body = {"name": "v", "query": "", "shared": True}
    url = f"{LIST}saved-views"
    assert both.post(url, body, content_type="application/json").status_code == 422
    assert "Name the namespace" in text(share(both, "v", shared="on") and both.get(LIST))
    assert not SavedView.objects.exists()
    other = {**body, "namespace": "gamma"}
    assert both.post(url, other, content_type="application/json").status_code == 404
    answer = both.post(url, {**body, "namespace": "beta"}, content_type="application/json")
    assert answer.json()["namespace"] == "beta"


def test_a_view_of_a_group_is_for_its_members(person, admin_client):
    ann, bob, eve = (person(name, "operator") for name in ("ann", "bob", "eve"))
    night = Group.objects.create(name="night")
    night.user_set.add(*User.objects.filter(username__in=("ann", "bob")))
    assert "<option>night</option>" in text(ann.get(LIST))
    share(ann, "v-night", group="night")
    url = f"{LIST}saved-views"
    assert [(view["name"], view["group"]) for view in bob.get(url).json()["views"]] == [
        ("v-night", "night")
    ]
    assert views_of(ann) == views_of(bob) == {"v-night"}
    assert "shared by ann with night" in text(bob.get(LIST))
    assert views_of(eve) == views_of(admin_client) == set()
    view = SavedView.objects.get()
    for client, status in ((bob, 404), (eve, 404), (admin_client, 204)):
        assert delete_by_api(client, view.pk) == status

    body = {"name": "v-x", "query": "", "shared": True, "group": "night"}
    assert eve.post(url, body, content_type="application/json").status_code == 404
    answer = bob.post(url, body, content_type="application/json")
    assert (answer.status_code, answer.json()["group"]) == (200, "night")
    night.user_set.remove(User.objects.get(username="ann"))
    assert views_of(ann) == set()


def choose_by_page(client, pk, chosen=True):
    form = {"chosen": "1"} if chosen else {}
    return client.post(f"{LIST}views/{pk}/default/", form).status_code


def choose_by_api(client, pk, chosen=True):
    url = f"{LIST}saved-views/{pk}/default"
    return (client.post(url) if chosen else client.delete(url)).status_code


@pytest.mark.parametrize("choose", [choose_by_page, choose_by_api])
def test_the_list_opens_with_the_default_view_of_the_user(person, choose):
    ann, bob = person("ann", "operator"), person("bob", "viewer")
    share(ann, "v-failed", query="?status=failed&ordering=name", shared="on", namespace="alpha")
    share(ann, "v-private")
    shared, private = SavedView.objects.order_by("name")
    assert choose(bob, private.pk) == 404
    assert choose(bob, shared.pk) < 400
    assert bob.get(LIST).url == f"{LIST}?view={shared.pk}&status=failed&ordering=name"
    assert bob.get(bob.get(LIST).url).status_code == 200
    assert bob.get(f"{LIST}?page=1").status_code == 200
    assert ann.get(LIST).status_code == 200
    assert [view["default"] for view in bob.get(f"{LIST}saved-views").json()["views"]] == [True]
    bob.post(f"{LIST}columns/", {"column": ["status"]})
    assert bob.get(LIST).status_code == 302, "other choices leave it as it is"

    assert choose(bob, shared.pk, chosen=False) < 400
    assert bob.get(LIST).status_code == 200
    choose(bob, shared.pk)
    SavedView.objects.update(shared=False)
    assert bob.get(LIST).status_code == 200, "it is not shared any more"
    delete_by_api(ann, shared.pk)
    assert ColumnChoice.objects.get().view is None


def test_an_api_key_has_no_default_view(namespace, make_key, person):
    share(person("ann", "operator"), "v-shared", shared="on", namespace="alpha")
    view = SavedView.objects.get()
    answer = ApiClient(make_key("admin"))("POST", f"{LIST}saved-views/{view.pk}/default")
    assert answer[0] == 403


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


def test_rows_are_sorted_by_columns_only(admin_client, many):
    page = text(admin_client.get(f"{LIST}?ordering=time"))
    assert page.index("health-1") < page.index("thread_9")
    assert 'aria-sort="ascending"' in page
    assert "ordering is one of" in text(admin_client.get(f"{LIST}?ordering=cost"))


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
