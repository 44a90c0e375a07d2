"""Run templates on pages, over REST and on a schedule; and the dashboard."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from graphs.auth import api_keys
from graphs.auth.callers import SYSTEM
from graphs.web import ttl_cache
from runs.actions import delete, run_templates
from runs.engine.start import RunOptions, start_outside, start_run
from runs.models import AuditEntry, Run, RunTemplate, State
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
    made = Run.objects.latest("pk")
    assert (made.initial_data, made.template, made.trigger) == ({"n": 2}, template, "template")
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
    made.refresh_from_db()
    assert made.template is None
    assert AuditEntry.objects.filter(action="delete_template").exists()


def test_progress_is_what_its_runs_did(saved, drain):
    assert run_templates.progress_of([saved])[saved.pk].percent_complete == 0
    run_templates.launch(saved, SYSTEM)
    drain()
    seen = run_templates.progress_of([saved])[saved.pk]
    assert (seen.runs, seen.failed, seen.percent_complete, seen.completed_nodes) == (
        1,
        1,
        50,
        ["a"],
    )


def test_progress_costs_two_statements(saved, django_assert_max_num_queries):
    others = [run_templates.clone(saved, f"t{at}", SYSTEM) for at in range(5)]
    for template in others:
        run_templates.launch(template, SYSTEM)
    with django_assert_max_num_queries(2):
        run_templates.progress_of(others)


def test_a_schedule_launches_once_whoever_looks(saved):
    saved.expression = "*/5 * * * *"
    run_templates.save(saved, SYSTEM)
    assert run_templates.launch_due() == 0
    later = timezone.now() + timedelta(minutes=6)
    assert run_templates.launch_due(later) == 1
    assert run_templates.launch_due(later) == 0
    made = Run.objects.latest("pk")
    assert (made.template, made.trigger) == (saved, "schedule")
    saved.refresh_from_db()
    assert saved.next_at > later


def test_a_template_that_cannot_be_launched_says_so_and_waits_for_its_next_time(saved):
    RunTemplate.objects.filter(pk=saved.pk).update(
        expression="*/5 * * * *", next_at=timezone.now(), store={"x": 1}
    )
    saved.graph.current.definition["inputs"] = {}
    from graphs.models import GraphVersion

    GraphVersion.objects.filter(pk=saved.graph.current_id).update(
        problems=[{"message": "node gone"}]
    )
    assert run_templates.launch_due() == 0
    saved.refresh_from_db()
    assert "node gone" in saved.error
    assert saved.next_at > timezone.now()


def test_templates_over_rest(saved, namespace, make_key, publish):
    api = ApiClient(api_keys.create_key(("alpha",), "run")[1])
    status, made = api("POST", "/templates", {"name": "From a run", "run_id": "first"})
    assert (status, made["inputs"], made["labels"]) == (201, {"n": 1}, {"team": "x"})
    status, fresh = api(
        "POST",
        "/templates",
        {"name": "New", "graph_id": made["graph_id"], "schedule": "0 6 * * *", "inputs": {"n": 5}},
    )
    assert (status, fresh["next_at"] is None) == (201, False)
    started = api("POST", f"/templates/{fresh['id']}/launch", {"run_id": "mine"})[1]
    assert started["id"] == "mine"
    assert api("POST", f"/templates/{fresh['id']}/launch", {"run_id": "mine"})[0] == 200, (
        "a repeated launch"
    )
    assert Run.objects.filter(template=fresh["id"]).count() == 1
    assert api("POST", f"/templates/{fresh['id']}/clone", {"name": "Clone", "inputs": {"n": 6}})[1][
        "inputs"
    ] == {"n": 6}
    assert [each["name"] for each in api("GET", "/templates")[1]["templates"]] == [
        "Clone",
        "From a run",
        "New",
        "Nightly",
    ]
    for body in (
        {"name": "x"},
        {"name": "x", "run_id": "first", "graph_id": "1"},
        {"name": "x", "graph_id": made["graph_id"], "schedule": "soon"},
    ):
        assert api("POST", "/templates", body)[0] == 422, body
    assert api("POST", "/templates", {"name": "New", "run_id": "first"})[0] == 409
    start_outside(namespace, RunOptions(run_id="outside"))
    assert api("POST", "/templates", {"name": "y", "run_id": "outside"})[0] == 409
    reader = ApiClient(make_key("read"))
    assert reader("POST", f"/templates/{fresh['id']}/launch")[0] == 403
    assert reader("GET", f"/templates/{fresh['id']}")[0] == 200
    assert (
        ApiClient(api_keys.create_key(("beta",), "admin")[1])("GET", f"/templates/{fresh['id']}")[0]
        == 404
    )
    assert api("DELETE", f"/templates/{fresh['id']}")[0] == 204


def test_deleting_a_graph_takes_its_templates(saved):
    delete.delete_graph(saved.graph)
    assert not RunTemplate.objects.exists()


def test_the_dashboard_counts_what_its_tiles_lead_to(
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
