"""The JSON API of the Run Manager, and starting and rerunning runs by thread id."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.utils import timezone

from graphs.auth import api_keys
from graphs.models import Namespace
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.models import LogLine, Run, State
from tests.support.api_client import ApiClient
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(namespace):
    return ApiClient(api_keys.create_key((), "admin")[1])


@pytest.fixture
def stored(namespace):
    """Five external runs, the newest first."""
    runs = []
    for at, (name, username, workspace) in enumerate(
        [
            ("Order Processing", "john", "w1"),
            ("Orders", "jane", "w1"),
            ("", "john", "w2"),
            ("Refund", "", "w2"),
            ("order again", "jane", "w3"),
        ]
    ):
        run = start_outside(
            namespace,
            RunOptions(run_id=f"thread_{at}", name=name, workspace=workspace, inputs={"at": at}),
        )
        Run.objects.filter(pk=run.pk).update(
            username=username, created_at=timezone.now() - timedelta(hours=at)
        )
        runs.append(run)
    return runs


def ids(answer: Any) -> list[str]:
    return [row["id"] for row in answer["runs"]]


def test_runs_are_listed_with_the_documented_members(admin, stored):
    status, answer = admin("GET", "/admin/run-manager/runs")
    assert (status, answer["total"], answer["page"], answer["page_size"]) == (200, 5, 1, 50)
    assert ids(answer) == [f"thread_{at}" for at in range(5)]
    first = answer["runs"][0]
    assert {key: first[key] for key in ("id", "name", "result", "username", "workspace")} == {
        "id": "thread_0",
        "name": "Order Processing",
        "result": "queued",
        "username": "john",
        "workspace": "w1",
    }
    assert first["time"].endswith("Z")
    assert answer["runs"][2]["name"] == "thread_2"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("search=order", [0, 1, 4]),
        ("search=THREAD_3", [3]),
        ("username=john", [0, 2]),
        ("workspace=w2", [2, 3]),
        ("username=jane&workspace=w3", [4]),
        ("search=order&username=jane", [1, 4]),
        ("status=queued", [0, 1, 2, 3, 4]),
        ("status=failed", []),
        ("search=%25", []),
        ("search=thread%5F1", [1]),
    ],
)
def test_filters_can_be_combined(admin, stored, query, expected):
    status, answer = admin("GET", f"/admin/run-manager/runs?{query}")
    assert (status, answer["total"]) == (200, len(expected))
    assert ids(answer) == [f"thread_{at}" for at in expected]


def test_the_list_has_pages(admin, stored):
    second = admin("GET", "/admin/run-manager/runs?page=2&page_size=2")[1]
    assert ids(second) == ["thread_2", "thread_3"]
    assert admin("GET", "/admin/run-manager/runs?page=9&page_size=2")[1]["runs"] == []
    for wrong in ("page=0", "page_size=0", "page_size=201", "page=x", "page=-1", "status=WHAT"):
        assert admin("GET", f"/admin/run-manager/runs?{wrong}")[0] == 422, wrong


def test_runs_started_with_a_key_have_its_name_as_username(publish, admin_client):
    graph = publish("a")
    api = ApiClient(api_keys.create_key((), "admin", name="nightly")[1])
    unnamed, text = api_keys.create_key((), "admin")
    assert api("POST", f"/graphs/{graph.pk}/run", {"run_id": "r"})[0] == 200
    body = {"thread_id": "t", "initial_data": {}, "sop": ""}
    assert api("POST", "/start", body)[0] == 200
    assert api("POST", "/rerun/t", {})[0] == 200
    created = {"run_id": "c", "states": [{"identifier": "a", "inputs": {}}]}
    assert api("POST", "/v0/namespace/alpha/graph/graph/states/create", created)[0] == 200
    assert ApiClient(text)("POST", f"/graphs/{graph.pk}/run", {"run_id": "u"})[0] == 200
    names = dict(Run.objects.values_list("run_id", "username"))
    expected = {"r": "nightly", "t": "nightly", "t_rerun_1": "nightly", "c": "nightly"}
    assert names == {**expected, "u": unnamed.prefix}
    status, answer = api("GET", "/admin/run-manager/runs?username=nightly")
    assert (status, answer["total"]) == (200, 4)
    # A key that has a user's name doesn't make its runs the user's own.
    Run.objects.update(username="admin")
    assert "You have not started any runs" in admin_client.get("/admin/").content.decode()


def test_usernames_and_workspaces_are_listed(admin, stored):
    assert admin("GET", "/admin/run-manager/usernames") == (200, {"usernames": ["jane", "john"]})
    assert admin("GET", "/admin/run-manager/workspaces") == (
        200,
        {"workspaces": ["w1", "w2", "w3"]},
    )


def test_the_list_costs_the_same_for_one_and_for_many(admin, stored, django_assert_max_num_queries):
    admin("GET", "/admin/run-manager/runs")
    with django_assert_max_num_queries(2):
        admin("GET", "/admin/run-manager/runs")


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/admin/run-manager/runs"), ("POST", "/admin/run-manager/runs/bulk-delete")],
)
def test_deleted_runs_leave_nothing_and_the_others_are_listed_with_reasons(
    admin, run_graph, publish, method, path
):
    done = run_graph("a>b", kinds={"b": "test.emit"})
    active = start_run(publish("a", name="other"))
    body = {"thread_ids": [done.run_id, active.run_id, "unknown", "a\u0001b"]}
    status, answer = admin(method, path, body)
    assert (status, answer["deleted_count"], answer["missing"]) == (200, 1, ["unknown", "a\u0001b"])
    assert [each["thread_id"] for each in answer["failed"]] == [active.run_id]
    assert "cancel it first" in answer["failed"][0]["error"]
    assert list(Run.objects.values_list("pk", flat=True)) == [active.pk]
    assert not State.objects.exclude(run=active).exists()
    assert not LogLine.objects.exclude(run=active).exists()
    assert admin(method, path, {"thread_ids": []})[0] == 422
    assert admin(method, path, {})[0] == 422
    assert admin(method, path, {"thread_ids": ["x"] * 201})[0] == 422


def test_an_id_of_several_namespaces_needs_the_namespace(admin, stored, namespace):
    second = Namespace.objects.create(name="beta")
    start_outside(second, RunOptions(run_id="thread_0"))
    Run.objects.update(status="completed", finished_at=timezone.now())
    answer = admin("DELETE", "/admin/run-manager/runs", {"thread_ids": ["thread_0"]})[1]
    assert (answer["deleted_count"], "alpha, beta" in answer["failed"][0]["error"]) == (0, True)
    answer = admin(
        "DELETE", "/admin/run-manager/runs?namespace=beta", {"thread_ids": ["thread_0"]}
    )[1]
    assert answer["deleted_count"] == 1
    assert Run.objects.get(run_id="thread_0").namespace.name == "alpha"


def test_the_api_is_for_admins(stored, make_key):
    assert ApiClient()("GET", "/admin/run-manager/runs")[0] == 401
    assert ApiClient("sm_12345678_wrong")("GET", "/admin/run-manager/runs")[0] == 401
    for scope in ("read", "run", "worker"):
        assert ApiClient(make_key(scope))("GET", "/admin/run-manager/runs")[0] == 403
    plain = User.objects.create_user("plain", password="pw")
    staff = User.objects.create_user("staff", password="pw", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_run"))
    for user, codes in ((plain, (403, 403)), (staff, (200, 403))):
        api = ApiClient()
        api.client.force_login(user)
        assert api("GET", "/admin/run-manager/runs")[0] == codes[0]
        assert api("DELETE", "/admin/run-manager/runs", {"thread_ids": ["thread_0"]})[0] == codes[1]


def test_a_key_of_one_namespace_sees_only_its_runs(stored):
    Namespace.objects.create(name="beta")
    api = ApiClient(api_keys.create_key(["beta"], "admin")[1])
    assert api("GET", "/admin/run-manager/runs")[1]["total"] == 0
    assert api("DELETE", "/admin/run-manager/runs", {"thread_ids": ["thread_0"]})[1]["missing"] == [
        "thread_0"
    ]


def test_json_web_tokens_are_issued_refreshed_and_validated(stored):
    User.objects.create_superuser("root", password="secret-pw")
    assert ApiClient()("POST", "/token", {"username": "root", "password": "wrong"})[0] == 401
    status, tokens = ApiClient()("POST", "/token", {"username": "root", "password": "secret-pw"})
    assert status == 200
    api = ApiClient(Authorization=f"Bearer {tokens['access']}")
    assert api("GET", "/admin/run-manager/runs")[1]["total"] == 5
    status, fresh = ApiClient()("POST", "/token/refresh", {"refresh": tokens["refresh"]})
    assert (
        ApiClient(Authorization=f"Bearer {fresh['access']}")("GET", "/admin/run-manager/runs")[0]
        == 200
    )
    for wrong in (tokens["refresh"], tokens["access"][:-3] + "abc", "x.y.z", ""):
        assert (
            ApiClient(Authorization=f"Bearer {wrong}")("GET", "/admin/run-manager/runs")[0] == 401
        ), wrong
    User.objects.update(is_active=False)
    assert api("GET", "/admin/run-manager/runs")[0] == 401


def test_starting_a_thread_twice_makes_one_run(admin):
    body = {
        "thread_id": "thread_1",
        "sop": "Do it.",
        "initial_data": {"order": 7},
        "run_name": "Orders",
    }
    started = (200, {"status": "started", "thread_id": "thread_1", "run_name": "Orders"})
    assert admin("POST", "/start", body) == started
    assert admin("POST", "/start", body) == started
    assert Run.objects.count() == 1
    assert admin("POST", "/start", {**body, "sop": "Else."})[0] == 409


def test_a_thread_without_a_name_is_called_by_its_id(admin):
    status, answer = admin("POST", "/start", {"sop": "", "initial_data": {}})
    assert (status, answer["run_name"]) == (200, answer["thread_id"])
    assert admin("POST", "/start", {"sop": "x"})[0] == 422
    assert admin("POST", "/start", {"sop": "x", "initial_data": [1]})[0] == 422


def test_a_thread_may_run_a_graph(admin, publish, drain):
    publish("a>b")
    status, answer = admin(
        "POST",
        "/start",
        {"sop": "s", "initial_data": {"x": 1}, "graph": "alpha/graph", "thread_id": "t"},
    )
    assert status == 200, answer
    drain()
    assert Run.objects.get(run_id="t").status == "completed"
    assert (
        admin("POST", "/start", {"sop": "s", "initial_data": {}, "graph": "alpha/unknown"})[0]
        == 404
    )


def test_metadata_and_logs_of_a_thread(admin, run_graph):
    run = run_graph(
        "a>b",
        RunOptions(run_id="t", name="Mine", inputs={"x": 1}, metadata={"m": 2}),
        kinds={"b": "test.fail"},
    )
    status, answer = admin("GET", "/admin/runs/t/metadata")
    assert status == 200
    expected = {
        "thread_id": "t",
        "run_name": "Mine",
        "sop": "",
        "initial_data": {"x": 1},
        "parent_thread_id": None,
        "rerun_count": 0,
        "metadata": {"m": 2},
        "status": "partial",
    }
    assert {key: answer[key] for key in expected} == expected
    assert answer["failed_skill"] == "b"
    assert "broken" in answer["error_message"]
    assert answer["completed_at"].endswith("Z")
    assert admin("GET", "/admin/runs/unknown/metadata")[0] == 404
    status, answer = admin("GET", "/admin/runs/t/logs?limit=1")
    assert (status, len(answer["logs"]), answer["count"]) == (200, 1, run.logs.count())
    assert admin("GET", "/admin/runs/t/logs?limit=0")[0] == 422


def test_a_rerun_has_the_same_inputs_and_a_name_of_its_own(admin, publish, drain):
    graph = publish("a>b")
    start_run(
        graph,
        RunOptions(
            run_id="t", name="Orders", inputs={"x": 1}, store={"k": "v"}, labels={"team": "a"}
        ),
    )
    drain()
    publish("a>b>c")
    status, answer = admin("POST", "/rerun/t")
    assert (status, answer) == (
        200,
        {
            "status": "started",
            "thread_id": "t_rerun_1",
            "run_name": "Orders (Rerun #1)",
            "parent_thread_id": "t",
            "rerun_count": 1,
        },
    )
    answer = admin("POST", "/rerun/t", {"version": "newest"})[1]
    assert answer["thread_id"] == "t_rerun_2"
    answer = admin("POST", "/rerun/t_rerun_1")[1]
    assert (answer["thread_id"], answer["run_name"], answer["rerun_count"]) == (
        "t_rerun_1_rerun_1",
        "Orders (Rerun #1)",
        1,
    )
    drain()
    runs = {run.run_id: run for run in Run.objects.select_related("parent", "version")}
    versions = {run_id: run.version.number for run_id, run in runs.items()}
    assert versions == {"t": 1, "t_rerun_1": 1, "t_rerun_2": 2, "t_rerun_1_rerun_1": 1}
    parents = {run_id: run.parent.run_id for run_id, run in runs.items() if run.parent}
    assert parents == {"t_rerun_1": "t", "t_rerun_2": "t", "t_rerun_1_rerun_1": "t_rerun_1"}
    reruns = {run_id: run.rerun_count for run_id, run in runs.items()}
    assert reruns == {"t": 2, "t_rerun_1": 1, "t_rerun_2": 0, "t_rerun_1_rerun_1": 0}
    for run in runs.values():
        assert (run.initial_data, run.store) == ({"x": 1}, {"k": "v"})
        assert (run.labels, run.status) == ({"team": "a"}, "completed")
        assert_counters_agree(run)


def test_a_rerun_may_have_other_inputs(admin, run_graph):
    run_graph("a>b", RunOptions(run_id="t", inputs={"x": 1}))
    assert admin("POST", "/rerun/t", {"inputs": {"x": 2}})[0] == 200
    assert Run.objects.get(run_id="t_rerun_1").initial_data == {"x": 2}


def test_impossible_reruns_are_refused(admin, run_graph):
    run_graph("a>b", RunOptions(run_id="t"))
    assert admin("POST", "/rerun/unknown")[0] == 404
    assert admin("POST", "/rerun/t", {"inputs": [1]})[0] == 422
    assert admin("POST", "/rerun/t", {"version": "other"})[0] == 422


def test_a_rerun_skips_ids_that_are_taken(admin, namespace):
    start_outside(namespace, RunOptions(run_id="t", sop="s", inputs={"x": 1}))
    start_outside(namespace, RunOptions(run_id="t_rerun_1"))
    answer = admin("POST", "/rerun/t")[1]
    assert (answer["thread_id"], answer["rerun_count"], answer["run_name"]) == (
        "t_rerun_2",
        2,
        "t (Rerun #2)",
    )
    new_run = Run.objects.get(run_id="t_rerun_2")
    assert (new_run.sop, new_run.initial_data, new_run.graph) == ("s", {"x": 1}, None)


def test_states_that_were_created_directly_are_created_again(admin, namespace):
    api = ApiClient(api_keys.create_key(["alpha"], "admin")[1])
    schema = {"type": "object"}
    node = {"name": "Work", "inputs_schema": schema, "outputs_schema": schema, "secrets": []}
    api("PUT", "/v0/namespace/alpha/nodes", {"runtime_name": "r", "nodes": [node]})
    template = {
        "node_name": "Work",
        "namespace": "alpha",
        "identifier": "a",
        "inputs": {},
        "next_nodes": [],
    }
    api("PUT", "/v0/namespace/alpha/graph/g", {"secrets": {}, "nodes": [template]})
    body = {
        "run_id": "made",
        "states": [{"identifier": "a", "inputs": {"n": at}} for at in range(2)],
    }
    assert api("POST", "/v0/namespace/alpha/graph/g/states/create", body)[0] == 200
    assert admin("POST", "/rerun/made")[0] == 200
    changed = {"inputs": {"n": 7, "other": 1}, "start_delay_ms": 3_600_000}
    assert admin("POST", "/rerun/made", changed)[0] == 200
    run, later = Run.objects.filter(run_id__startswith="made_rerun_").order_by("pk")
    for each in (run, later):
        assert by_node(each) == {"a": ["CREATED", "CREATED"]}
        assert_counters_agree(each)
    assert sorted(state.inputs["n"] for state in run.states.all()) == [0, 1]
    assert [state.inputs for state in later.states.all()] == [{"n": 7}, {"n": 7}]
    assert later.initial_data == {"n": 7, "other": 1}
    assert min(state.due_at for state in later.states.all()) > run.created_at + timedelta(hours=0.9)


@pytest.mark.races
@pytest.mark.django_db(transaction=True)
def test_reruns_at_the_same_moment_get_different_numbers(publish):
    start_run(publish("a"), RunOptions(run_id="t"))
    key = api_keys.create_key((), "admin")[1]
    answers: list[Any] = []

    def click() -> None:
        answers.append(ApiClient(key)("POST", "/rerun/t"))
        connections.close_all()

    threads = [threading.Thread(target=click) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for status, _ in answers] == [200] * 8
    assert sorted(answer["rerun_count"] for _, answer in answers) == list(range(1, 9))
    assert Run.objects.get(run_id="t").rerun_count == 8


def test_a_waiting_run_is_approved(admin, publish, drain):
    run = start_run(publish("ok", kinds={"ok": "test.ask"}), RunOptions(run_id="t"))
    assert admin("POST", "/approve/t")[0] == 409
    drain()
    assert admin("POST", "/approve/t", "no number")[0] == 422
    assert admin("POST", "/approve/t", 7) == (200, {"status": "resumed"})
    drain()
    assert run.states.get().outputs == {"value": 7}
    assert admin("POST", "/approve/t")[0] == 409


def test_an_id_with_a_blank_is_another_id(admin, namespace):
    run = start_outside(namespace, RunOptions(run_id="x"))
    Run.objects.filter(pk=run.pk).update(status="completed", finished_at=timezone.now())
    answer = admin("DELETE", "/admin/run-manager/runs", {"thread_ids": ["x ", " x"]})
    assert answer == (200, {"deleted_count": 0, "failed": [], "missing": ["x ", " x"]})
    assert admin("DELETE", "/admin/run-manager/runs", {"thread_ids": [1]})[0] == 422
    assert Run.objects.filter(pk=run.pk).exists()
