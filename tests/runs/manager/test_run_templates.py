"""Run templates on pages, over REST and on schedules, and the dashboard."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from graphs.auth import api_keys
from graphs.auth.callers import SYSTEM
from graphs.models import Dataset, GraphVersion, Namespace
from graphs.web import ttl_cache
from runs.actions import delete, run_templates
from runs.core import sql
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.models import AuditEntry, RecurringRerun, Run, RunTemplate, State
from tests.support.api_client import ApiClient
from tests.support.pages import LIST, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def saved(run_graph):
    run = run_graph(
        "a>b",
        RunOptions(run_id="first", inputs={"n": 1}, labels={"team": "x"}),
        kinds={"b": "test.fail"},
    )
    return run_templates.from_run(run, "Nightly", SYSTEM)


def test_a_run_is_saved_launched_cloned_and_scheduled_on_pages(admin_client, run_graph, drain):
    run = run_graph("a>b", RunOptions(inputs={"n": 1}))
    assert "Save as template" in text(admin_client.get(f"{LIST}run/{run.pk}/"))
    assert admin_client.post(f"{LIST}run/{run.pk}/template/", {"name": ""}).status_code == 422
    answer = admin_client.post(
        f"{LIST}run/{run.pk}/template/", {"name": "Nightly <b>", "description": "x"}
    )
    template = RunTemplate.objects.get()
    assert answer.url == f"{LIST}templates/{template.pk}/"
    assert "already" in text(
        admin_client.post(f"{LIST}run/{run.pk}/template/", {"name": "Nightly <b>"})
    )
    admin_client.post(f"{answer.url}launch/", {"inputs": '{"n": 2}'})
    run = Run.objects.latest("pk")
    assert (run.initial_data, run.template, run.trigger) == ({"n": 2}, template, "template")
    drain()
    page = text(admin_client.get(answer.url))
    assert "1: 1 completed, 0 failed, 0 active" in page
    assert "100 %" in page
    assert "Nightly &lt;b&gt;" in page
    admin_client.post(
        f"{answer.url}schedule/", {"expression": "0 6 * * *", "time_zone": "Europe/Berlin"}
    )
    template.refresh_from_db()
    assert template.next_at > timezone.now()
    assert "is not a valid cron expression" in text(
        admin_client.post(
            f"{answer.url}schedule/", {"expression": "soon", "time_zone": "UTC"}, follow=True
        )
    )
    admin_client.post(f"{answer.url}clone/", {"name": "Other"})
    other = RunTemplate.objects.get(name="Other")
    assert (other.inputs, other.expression) == ({"n": 1}, "")
    listed = text(admin_client.get(f"{LIST}templates/"))
    assert listed.index("<bdi>Nightly") < listed.index("<bdi>Other")
    admin_client.post(f"{answer.url}delete/")
    run.refresh_from_db()
    assert run.template is None
    assert AuditEntry.objects.filter(action="delete_template").exists()


def test_the_progress_of_a_template_is_that_of_its_runs(saved, drain):
    assert run_templates.progress_of([saved])[saved.pk].percent_complete == 0
    run_templates.launch(saved, SYSTEM)
    drain()
    progress = run_templates.progress_of([saved])[saved.pk]
    assert (progress.runs, progress.failed) == (1, 1)
    assert (progress.percent_complete, progress.completed_nodes) == (50, ["a"])


def test_progress_costs_two_statements(saved, django_assert_max_num_queries):
    others = [run_templates.clone(saved, f"t{at}", SYSTEM) for at in range(5)]
    for template in others:
        run_templates.launch(template, SYSTEM)
    with django_assert_max_num_queries(2):
        run_templates.progress_of(others)


def test_a_due_schedule_launches_once(saved):
    saved.expression = "*/5 * * * *"
    run_templates.save(saved, SYSTEM)
    assert run_templates.launch_due() == 0
    later = timezone.now() + timedelta(minutes=6)
    assert run_templates.launch_due(later) == 1
    assert run_templates.launch_due(later) == 0
    run = Run.objects.latest("pk")
    assert (run.template, run.trigger) == (saved, "schedule")
    saved.refresh_from_db()
    assert saved.next_at > later


def test_a_template_that_cannot_be_launched_keeps_its_error_and_its_schedule(saved):
    due = timezone.now() - timedelta(seconds=1)
    RunTemplate.objects.filter(pk=saved.pk).update(
        expression="*/5 * * * *", next_at=due, store={"x": 1}
    )
    GraphVersion.objects.filter(pk=saved.graph.current_id).update(
        problems=[{"message": "node gone"}]
    )
    assert run_templates.launch_due() == 0
    saved.refresh_from_db()
    assert "node gone" in saved.error
    assert saved.next_at > timezone.now()


def test_templates_over_rest(saved, make_key):
    api = ApiClient(api_keys.create_key(("alpha",), "run")[1])
    status, from_run = api("POST", "/templates", {"name": "From a run", "run_id": "first"})
    assert (status, from_run["inputs"], from_run["labels"]) == (201, {"n": 1}, {"team": "x"})

    body = {"name": "New", "graph_id": from_run["graph_id"], "inputs": {"n": 5}}
    status, template = api("POST", "/templates", {**body, "schedule": "0 6 * * *"})
    assert (status, template["next_at"] is None) == (201, False)
    url = f"/templates/{template['id']}"
    started = api("POST", f"{url}/launch", {"run_id": "mine"})[1]
    assert started["id"] == "mine"
    assert api("POST", f"{url}/launch", {"run_id": "mine"})[0] == 200, "a repeated launch"
    assert Run.objects.filter(template=template["id"]).count() == 1

    clone = api("POST", f"{url}/clone", {"name": "Clone", "inputs": {"n": 6}})[1]
    assert clone["inputs"] == {"n": 6}
    templates = api("GET", "/templates")[1]["templates"]
    names = [listed["name"] for listed in templates]
    assert names == ["Clone", "From a run", "New", "Nightly"]
    assert api("DELETE", url)[0] == 204


def test_wrong_templates_are_refused_over_rest(saved, namespace):
    api = ApiClient(api_keys.create_key(("alpha",), "run")[1])
    for body in (
        {"name": "x"},
        {"name": "x", "run_id": "first", "graph_id": "1"},
        {"name": "x", "graph_id": str(saved.graph_id), "schedule": "soon"},
    ):
        assert api("POST", "/templates", body)[0] == 422, body
    assert api("POST", "/templates", {"name": "Nightly", "run_id": "first"})[0] == 409
    start_outside(namespace, RunOptions(run_id="outside"))
    assert api("POST", "/templates", {"name": "y", "run_id": "outside"})[0] == 409


def test_a_template_is_visible_in_its_namespace_and_launched_with_the_scope_run(saved, make_key):
    reader = ApiClient(make_key("read"))
    assert reader("POST", f"/templates/{saved.pk}/launch")[0] == 403
    assert reader("GET", f"/templates/{saved.pk}")[0] == 200
    other = ApiClient(api_keys.create_key(("beta",), "admin")[1])
    assert other("GET", f"/templates/{saved.pk}")[0] == 404


def test_deleting_a_graph_deletes_its_templates(saved):
    delete.delete_graph(saved.graph)
    assert not RunTemplate.objects.exists()


def test_the_tiles_of_the_dashboard_show_how_many_runs_they_lead_to(
    admin_client, run_graph, publish, django_assert_max_num_queries
):
    assert "To start one, you need" in text(admin_client.get("/admin/"))
    run_graph("a>b", kinds={"b": "test.fail"})
    start_run(publish("a", name="other"), caller=SYSTEM)
    ttl_cache.forget()
    page = text(admin_client.get("/admin/"))
    assert "<strong>1</strong> Failed today, not recovered" in page
    assert 'href="/admin/run-manager/?status=queued"><strong>1</strong> Queued' in page
    assert "No cluster is running" in page
    assert page.count("rm-bar-partial") == 1
    with django_assert_max_num_queries(8):
        part = text(admin_client.get(f"{LIST}dashboard"))
    assert part.startswith('<section id="rm-dashboard"')
    User.objects.create_user("staff", password="pw", is_staff=True)
    admin_client.force_login(User.objects.get(username="staff"))
    assert "rm-dashboard" not in text(admin_client.get("/admin/"))
    assert State.objects.count() == 3


def test_a_template_is_edited_on_its_page(admin_client, saved):
    url = f"{LIST}templates/{saved.pk}/"
    assert f'href="{url}edit/"' in text(admin_client.get(url))
    page = text(admin_client.get(f"{url}edit/"))
    assert "Nightly" in page
    form = {"name": "Weekly", "description": "d", "labels": '{"a": "b c"}', "workspace": "w"}
    assert admin_client.post(f"{url}edit/", {**form, "inputs": "["}).status_code == 422
    assert admin_client.post(f"{url}edit/", {**form, "labels": '{"a": 1}'}).status_code == 422
    saved.refresh_from_db()
    assert (saved.name, saved.inputs) == ("Nightly", {"n": 1})
    assert admin_client.post(f"{url}edit/", {**form, "inputs": '{"n": 2}'}).url == url
    saved.refresh_from_db()
    assert (saved.name, saved.description, saved.workspace) == ("Weekly", "d", "w")
    assert (saved.labels, saved.inputs) == ({"a": "b c"}, {"n": 2})


def test_a_template_is_changed_over_rest(saved, make_key, publish):
    api = ApiClient(make_key("run"))
    path = f"/templates/{saved.pk}"
    RunTemplate.objects.update(inputs={"n": 1, "password": "hunter2"}, next_at=sql.clock())
    due = RunTemplate.objects.get().next_at
    shown = api("GET", path)[1]["inputs"]
    assert "hunter2" not in str(shown)
    status, answer = api("PATCH", path, {"inputs": {**shown, "n": 3}, "description": "x"})
    assert (status, answer["name"], answer["description"]) == (200, "Nightly", "x")
    saved.refresh_from_db()
    assert saved.inputs == {"n": 3, "password": "hunter2"}
    assert saved.next_at == due, "a schedule that was not changed stays as it is"
    assert api("PATCH", path, {"schedule": "0 6 * * *"})[1]["next_at"]
    assert api("PATCH", path, {"schedule": "soon"})[0] == 422
    assert api("PATCH", path, {"name": " "})[0] == 422
    assert api("PATCH", path, {"labels": {"a": {}}})[0] == 422
    assert ApiClient(make_key("read"))("PATCH", path, {"name": "x"})[0] == 403
    assert ApiClient(make_key("admin", ("beta",)))("PATCH", path, {"name": "x"})[0] == 404
    run_templates.clone(saved, "Other", SYSTEM)
    assert api("PATCH", path, {"name": "Other"})[0] == 409
    assert AuditEntry.objects.filter(action="change_template").count() == 2


def test_secrets_that_were_shown_as_dots_are_the_ones_that_runs_and_copies_get(saved, make_key):
    api = ApiClient(make_key("run"))
    path = f"/templates/{saved.pk}"
    accounts = [{"name": "ann", "password": "ann's"}, {"name": "bob", "password": "bob's"}]
    RunTemplate.objects.update(inputs={"n": 1, "accounts": accounts})
    shown = api("GET", path)[1]["inputs"]
    sent = {"inputs": {"n": 2, "accounts": shown["accounts"][1:]}}
    expected = {"n": 2, "accounts": accounts[1:]}
    assert api("POST", f"{path}/launch", {"run_id": "launched", **sent})[0] == 200
    assert api("POST", f"{path}/clone", {"name": "Copy", **sent})[0] == 201
    assert RunTemplate.objects.get(name="Copy").inputs == expected
    assert api("POST", "/rerun/launched", {"inputs": {**sent["inputs"], "n": 3}})[0] == 200
    assert [run.initial_data for run in Run.objects.order_by("pk")[1:]] == [
        expected,
        {**expected, "n": 3},
    ]
    assert (
        api("POST", "/rerun/launched", {"inputs": sent["inputs"], "schedule": "0 6 * * *"})[0]
        == 201
    )
    assert RecurringRerun.objects.get().inputs == expected


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("templates/{pk}/launch", {}),
        ("templates/{pk}/clone", {"name": "Copy"}),
        ("rerun/first", {}),
        ("rerun/first", {"schedule": "0 6 * * *"}),
        ("admin/run-manager/bulk-operations", {}),
    ],
)
def test_dots_that_stand_for_no_secret_are_refused(saved, make_key, path, body):
    before = (Run.objects.count(), RunTemplate.objects.count())
    body = {**body, "inputs": {"passphrase": "•••"}}
    if "bulk" in path:
        body = {"action": "rerun", "filter": {}, "params": {"inputs": body["inputs"]}}
    status, answer = ApiClient(make_key("admin"))("POST", f"/{path.format(pk=saved.pk)}", body)
    assert (status, "Enter the value at 'passphrase' again" in str(answer)) == (422, True), answer
    assert (Run.objects.count(), RunTemplate.objects.count()) == before
    assert not RecurringRerun.objects.exists()


def test_the_rerun_page_tells_true_from_1(saved, admin_client):
    run = Run.objects.get(run_id="first")
    Run.objects.filter(pk=run.pk).update(initial_data={"v": 1, "w": [0]})
    url = f"{LIST}rerun/{run.pk}/"
    for sent, expected in (
        ('{"v": true, "w": [false]}', '{"v": true, "w": [false]}'),
        ('{"v": 1.0, "w": [0]}', '{"v": 1.0, "w": [0]}'),
    ):
        admin_client.post(url, {"from": "start", "inputs": sent})
        assert json.dumps(Run.objects.latest("pk").initial_data) == expected


def test_a_template_takes_a_dataset_of_its_own_namespace(saved, make_key):
    own = Dataset.objects.create(namespace=saved.namespace, name="d")
    beta = Namespace.objects.create(name="beta")
    other = Dataset.objects.create(namespace=beta, name="d")
    api = ApiClient(make_key("run", ()))
    path = f"/templates/{saved.pk}"
    assert api("PATCH", path, {"dataset_id": str(own.pk)})[1]["dataset_id"] == own.pk
    assert api("PATCH", path, {"dataset_id": str(other.pk)})[0] == 422
    assert api("PATCH", path, {"dataset_id": None})[1]["dataset_id"] is None
