"""The twenty defects of the system whose protocol this is (contract section D): each has a test, named after its number."""

import http.client
import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from graphs.auth import api_keys
from graphs.models import ApiKey, CronTrigger, Graph, RegisteredNode, Secret
from runs.actions import schedules
from runs.engine import lease_recovery
from runs.engine import start as start_module
from runs.engine import store as store_module
from runs.models import Run, State
from tests.clusters import served
from tests.conftest import by_node
from tests.invariants import assert_books_agree
from tests.runs.api.v0.conftest import Api, node

pytestmark = pytest.mark.django_db
threaded = pytest.mark.django_db(transaction=True)


def at_once(calls: list[Any]) -> list[Any]:
    """Call all of them at the same moment, each in a thread of its own."""
    answers: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def one(at: int) -> None:
        gate.wait()
        try:
            answers[at] = calls[at]()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def one_state(api: Api, **members: Any) -> dict[str, Any]:
    api.upsert("g", node("a", ["b"]), node("b"), **members)
    api.trigger("g")
    return api.claim("Work")[0]


def test_defect_01_a_claimed_state_comes_back_when_its_worker_dies(api):
    state = one_state(api)
    for attempt in (2, 3):
        State.objects.filter(status="QUEUED").update(
            lease_expires_at=timezone.now() - timedelta(seconds=1)
        )
        assert lease_recovery.rescue_expired() == 1
        [again] = api.claim("Work")
        assert (again["state_id"], again["attempt"]) == (state["state_id"], attempt)
    stored = State.objects.get(pk=state["state_id"])
    assert 880 < (stored.lease_expires_at - timezone.now()).total_seconds() <= 900
    assert api.post(f"state/{state['state_id']}/executed", {"outputs": [], "attempt": 1})[0] == 409
    State.objects.filter(status="QUEUED").update(
        lease_expires_at=timezone.now() - timedelta(seconds=1)
    )
    lease_recovery.rescue_expired()
    assert State.objects.get(pk=state["state_id"]).status == "TIMEDOUT"


def test_defect_02_a_report_and_what_follows_are_one_transaction(api, monkeypatch):
    state = one_state(api)

    def crash(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "insert", crash)
    with pytest.raises(KeyboardInterrupt):
        api.post(f"state/{state['state_id']}/executed", {"outputs": [{"value": "1"}]})
    monkeypatch.undo()
    assert by_node(Run.objects.get()) == {"a": ["QUEUED"]}
    api.executed(state, {"value": "1"})
    assert by_node(Run.objects.get()) == {"a": ["SUCCESS"], "b": ["CREATED"]}


@threaded
@pytest.mark.parametrize("attempt", [None, 1])
def test_defect_03_of_reports_at_the_same_moment_one_counts(api, attempt):
    state = one_state(api)
    path = f"/v0/namespace/alpha/state/{state['state_id']}"
    bodies = [
        ("executed", {"outputs": [{"value": str(at)}]})
        if at % 2
        else ("errored", {"error": str(at)})
        for at in range(10)
    ]
    key = api.key
    answers = at_once(
        [
            lambda verb=verb, body=body: Api(key).post(
                f"{path}/{verb}", {**body, "attempt": attempt}
            )
            for verb, body in bodies
        ]
    )
    run = Run.objects.get()
    assert run.states.filter(identifier="a").exclude(status="CREATED").count() == 1
    assert (
        run.states.filter(identifier="b").count()
        + run.states.filter(status="CREATED", identifier="a").count()
        == 1
    )
    won = Counter(status for status, _ in answers)
    assert set(won) == {200, 400}
    assert (
        won[200] == 1 if attempt is None else 1 <= won[200] <= 5
    )  # who names the attempt gets the first answer again
    assert_books_agree(run)


def test_defect_04_another_namespace_finds_nothing(api, other):
    state = one_state(api)
    bodies = {
        "executed": {"outputs": []},
        "errored": {"error": ""},
        "prune": {"data": {}},
        "re-enqueue-after": {"enqueue_after": 1},
    }
    bodies |= {"manual-retry": {"fanout_id": "x"}, "heartbeat": {}, "release": {}}
    for verb, body in bodies.items():
        assert other.post(f"state/{state['state_id']}/{verb}", body)[0] == 404, verb
        assert (
            other.post(f"/v0/namespace/alpha/state/{state['state_id']}/{verb}", body)[0] == 404
        ), verb
    assert other.get(f"state/{state['state_id']}/secrets")[0] == 404
    assert by_node(Run.objects.get()) == {"a": ["QUEUED"]}


@pytest.mark.parametrize(
    ("last", "strategy", "fires"),
    [
        ("errored", "ALL_DONE", 1),
        ("prune", "ALL_DONE", 1),
        ("prune", "ALL_SUCCESS", 1),
        ("errored", "ALL_SUCCESS", 0),
    ],
)
def test_defect_05_a_unite_fires_when_its_last_branch_fails_or_is_pruned(
    api, last, strategy, fires
):
    unites = {"identifier": "s", "strategy": strategy}
    api.upsert(
        "g",
        node("s", ["m"]),
        node("m", ["a"]),
        node("a", ["u"]),
        node("u", unites=unites),
        retry_policy={"max_retries": 0},
    )
    api.trigger("g")
    api.executed(api.claim("Work")[0], {"value": "1"})
    api.executed(api.claim("Work")[0], {"value": "1"}, {"value": "2"})
    first, second = api.claim("Work")
    api.executed(first, {"value": "1"})
    assert (
        api.post(
            f"state/{second['state_id']}/{last}",
            {"error": "x"} if last == "errored" else {"data": {}},
        )[0]
        == 200
    )
    assert [state["identifier"] for state in api.claim("Work")] == ["u"] * fires


@pytest.mark.parametrize("size", [20_000, 2**31 - 1, 0, -5])
def test_defect_06_a_claim_is_bounded_and_one_statement(api, size, django_assert_max_num_queries):
    api.upsert("g", node("s", ["a"]), node("a"))
    api.trigger("g")
    api.executed(api.claim("Work")[0], *({"value": str(at)} for at in range(1500)))
    api.get("nodes/")  # the key is known now
    with django_assert_max_num_queries(6):
        claimed = api.claim("Work", size=size)
    assert len(claimed) == (1000 if size > 0 else 0)


def test_defect_06_absurd_sizes_are_refused(api):
    assert api.post("states/enqueue", {"nodes": ["Work"], "batch_size": 2**31})[0] == 422
    raw = api.client.post(
        "/v0/namespace/alpha/states/enqueue",
        '{"nodes": ["Work"], "batch_size": 1' + "0" * 400 + "}",
        content_type="application/json",
    )
    assert raw.status_code == 422


def test_defect_06_the_oldest_come_first(api):
    api.upsert("g", node("a"))
    ids = [api.trigger("g") for _ in range(5)]
    State.objects.filter(run__run_id=ids[3]).update(due_at=timezone.now() - timedelta(hours=1))
    assert [api.claim("Work", size=1)[0]["run_id"] for _ in range(5)] == [ids[3], *ids[:3], ids[4]]


def test_defect_07_keys_open_their_namespaces_and_scopes_only(api, namespace):
    reader, runner, worker = (
        Api(api_keys.create_key(["alpha"], scope)[1]) for scope in ("read", "run", "worker")
    )
    state = one_state(api)
    assert [each.get("graphs/")[0] for each in (reader, runner, worker)] == [200] * 3
    assert [each.post("graph/g/trigger", {})[0] for each in (reader, runner, worker)] == [
        403,
        200,
        403,
    ]
    assert [
        each.post("states/enqueue", {"nodes": [], "batch_size": 1})[0]
        for each in (reader, runner, worker)
    ] == [403, 403, 200]
    assert [each.get(f"state/{state['state_id']}/secrets")[0] for each in (reader, runner)] == [
        403,
        403,
    ]
    assert [each("delete", "graph/g")[0] for each in (reader, runner, worker)] == [403] * 3
    api_keys.revoke(ApiKey.objects.filter(scope="read"))
    assert reader.get("graphs/") == (401, {"detail": "Invalid API key"})
    assert api.key.split("_", 2)[2] not in str(ApiKey.objects.values_list())


def test_defect_08_an_update_is_judged_by_what_it_says_and_runs_keep_their_version(api):
    api.register("Take", inputs={"x": "string"})
    api.upsert(
        "g", node("a", ["b"]), node("b", name="Take", inputs={"x": "${{ a.outputs.value }}"})
    )
    run_id = api.trigger("g")
    renamed = api.upsert(
        "g", node("b", ["a"]), node("a", name="Take", inputs={"x": "${{ b.outputs.value }}"})
    )
    assert (renamed["validation_status"], renamed["validation_errors"], renamed["version"]) == (
        "VALID",
        [],
        2,
    )
    api.executed(api.claim("Work")[0], {"value": "1"})
    [state] = api.claim("Take")
    assert (state["identifier"], state["inputs"], state["run_id"]) == ("b", {"x": "1"}, run_id)


def test_defect_09_a_graph_is_read_as_it_was_put(api):
    policy = {
        "max_retries": 7,
        "strategy": "LINEAR_FULL_JITTER",
        "backoff_factor": 11,
        "exponent": 3,
        "max_delay": 99,
    }
    store, cron = (
        {"required_keys": ["k"], "default_values": {"d": "v"}},
        [{"type": "CRON", "value": {"expression": "5 4 * * *"}}],
    )
    api.upsert("g", node("a"), retry_policy=policy, store_config=store, triggers=cron)
    read = api.get("graph/g")[1]
    assert (read["retry_policy"], read["store_config"], read["triggers"]) == (policy, store, cron)
    api.upsert("g", node("a"))
    assert api.get("graph/g")[1]["retry_policy"]["max_retries"] == 3
    assert api.get("graph/g")[1]["triggers"] == []


def test_defect_10_what_can_t_be_read_is_refused_with_a_reason(api):
    one_state(api)
    for path in (
        "state/nonsense",
        "state/00",
        "state/%00",
        f"state/{'f' * 24}",
        f"state/{'f' * 32}",
        f"state/{'g' * 32}",
    ):
        assert api.post(f"{path}/executed", {"outputs": []})[0] == 404, path
        assert api.get(f"{path}/secrets")[0] == 404, path
    for page, size in (
        ("0", "1"),
        ("-1", "1"),
        ("1", "-1"),
        ("1", "0"),
        ("x", "1"),
        ("1", "201"),
        ("9" * 30, "1"),
    ):
        status, answer = api.get(f"runs/{page}/{size}")
        assert (status, isinstance(answer["detail"], list)) == (422, True), (page, size)
    for text in (
        "{",
        "",
        "[]",
        "NaN",
        '{"outputs": [{"x": NaN}]}',
        '{"outputs": [{"x": "\\ud800"}]}',
        '{"outputs": [{"x": "\\u0000"}]}',
        "[" * 100_000,
    ):
        answer = api.client.post(
            f"/v0/namespace/alpha/state/{'f' * 32}/executed", text, content_type="application/json"
        )
        assert answer.status_code == 422, text[:40]
        assert answer.json()["detail"]


def test_defect_10_the_422_is_a_list_of_what_is_wrong(api):
    status, answer = api.put("graph/g", {"secrets": {"a": 1}, "nodes": [{"node_name": " "}]})
    places = {tuple(each["loc"]): each["type"] for each in answer["detail"]}
    assert status == 422
    assert places[("body", "secrets", "a")] == "string_type"
    assert places[("body", "nodes", 0, "identifier")] == "missing"
    assert all({"type", "loc", "msg", "input"} <= set(each) for each in answer["detail"])
    raw = api.client.put(
        "/v0/namespace/alpha/graph/g", '{"secrets": ', content_type="application/json"
    ).json()
    assert raw["detail"][0]["type"] == "json_invalid"
    assert raw["detail"][0]["loc"] == ["body", 12]
    raw = api.client.put("/v0/namespace/alpha/graph/g", "", content_type="application/json").json()
    assert raw["detail"] == [
        {"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}
    ]


def test_defect_11_every_list_is_bounded_and_leads_on(api):
    api.register(*(f"N{at}" for at in range(5)))
    for name in "abcde":
        api.upsert(name, node("x", ["y"]), node("y"))
        api.trigger(name)
    api.work("Work")
    for path, key, total in (
        ("nodes", "nodes", 6),
        ("graphs", "templates", 5),
        ("states", "states", 10),
        ("graph/a/versions", "versions", 1),
    ):
        seen: list[Any] = []
        after = ""
        while after is not None:
            status, answer = api.get(f"{path}?limit=3&after={after}")
            assert (status, len(answer[key]) <= 3, answer["count"]) == (200, True, len(answer[key]))
            seen += answer[key]
            after = answer["next"]
        assert len(seen) == total, path
        assert len({json.dumps(each, sort_keys=True) for each in seen}) == total
        assert api.get(f"{path}?limit=100000")[0] == 422
        assert api.get(f"{path}?limit=0")[0] == 422


def test_defect_12_finished_states_stay_finished(api):
    state = one_state(api)
    assert api.post(f"state/{state['state_id']}/manual-retry", {"fanout_id": "x"})[0] == 409
    api.executed(state, {"value": "1"})
    for verb, body in {
        "re-enqueue-after": {"enqueue_after": 1},
        "executed": {"outputs": []},
        "errored": {"error": ""},
        "prune": {"data": {}},
    }.items():
        status, answer = api.post(f"state/{state['state_id']}/{verb}", body)
        assert (status, answer) == (400, {"detail": "State is not queued: it is SUCCESS."}), verb
    status, answer = api.post(f"state/{state['state_id']}/manual-retry", {"fanout_id": "x"})
    assert (status, answer["allowed"]) == (
        409,
        ["ERRORED", "NEXT_CREATED_ERROR", "TIMEDOUT", "CANCELLED"],
    )
    assert by_node(Run.objects.get()) == {"a": ["SUCCESS"], "b": ["CREATED"]}


CRON = [{"type": "CRON", "value": {"expression": "0 9 * * *", "timezone": "Europe/Berlin"}}]


def test_defect_13_triggers_are_their_graph_s_own(api, other):
    for each in (api, other):
        each.upsert("g", node("a", namespace=each.namespace), triggers=CRON)
    kept = CronTrigger.objects.get(graph__namespace__name="beta")
    assert kept.next_at.astimezone(UTC).hour in (7, 8)  # nine o'clock in Berlin
    for _ in range(3):
        assert api.upsert("g", node("a"), triggers=CRON + CRON)["validation_status"] == "VALID"
    assert CronTrigger.objects.filter(graph__namespace__name="alpha").count() == 1
    api.upsert("g", node("a"))
    assert list(CronTrigger.objects.all()) == [kept]


@pytest.mark.parametrize("wrong", ["61 * * * *", "* * * *", "@reboot", "x", "", "0 0 30 2 *"])
def test_defect_13_expressions_are_judged_when_they_are_saved(api, wrong):
    trigger = {"type": "CRON", "value": {"expression": wrong}}
    api.upsert("g", node("a"), triggers=[trigger], status=422)
    api.upsert(
        "g",
        node("a"),
        triggers=[{"type": "CRON", "value": {"expression": "0 9 * * *", "timezone": wrong}}],
        status=422,
    )


@threaded
def test_defect_13_each_due_time_fires_once_and_nothing_is_caught_up(api):
    api.upsert("g", node("a"), triggers=[{"type": "CRON", "value": {"expression": "*/5 * * * *"}}])
    due = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    CronTrigger.objects.update(next_at=due)
    now = due + timedelta(minutes=62)
    assert sum(at_once([lambda: schedules.fire_due(now) for _ in range(8)])) == 1
    trigger, run = CronTrigger.objects.get(), Run.objects.get()
    assert (trigger.next_at, trigger.missed, run.trigger) == (
        due + timedelta(minutes=65),
        12,
        "schedule",
    )
    assert "12 earlier due times" in run.logs.last().message
    assert schedules.fire_due(now) == 0
    assert_books_agree(run)


def test_defect_13_a_graph_that_can_t_start_says_so_and_the_chain_goes_on(api):
    config = {"required_keys": ["k"], "default_values": {}}
    api.upsert(
        "g",
        node("a"),
        store_config=config,
        triggers=[{"type": "CRON", "value": {"expression": "* * * * *"}}],
    )
    for _ in range(2):
        CronTrigger.objects.update(next_at=timezone.now() - timedelta(seconds=1))
        assert schedules.fire_due() == 0
        trigger = CronTrigger.objects.get()
        assert "store keys k" in trigger.error
        assert trigger.next_at > timezone.now()
    assert not Run.objects.exists()


def test_defect_14_a_join_without_unites_runs_once_with_what_all_its_parents_gave(api):
    api.register("Take", inputs={"x": "string"})
    join = node("j", name="Take", inputs={"x": "${{ b.outputs.value }} ${{ c.outputs.value }}"})
    api.upsert("g", node("a", ["b", "c"]), node("b", ["j"]), node("c", ["j"]), join)
    api.trigger("g")
    api.work("Work", outputs={"b": [{"value": "from b"}], "c": [{"value": "from c"}]})
    [state] = api.claim("Take")
    assert state["inputs"] == {"x": "from b from c"}


def test_defect_14_a_node_of_another_namespace_is_run_by_its_workers(api, other, namespace):
    both = Api(api_keys.create_key(["alpha", "beta"], "admin")[1])
    assert (
        "opens no namespace 'beta'"
        in api.upsert("g", node("a", namespace="beta"), status=400)["detail"]
    )
    assert (
        both.upsert("g", node("a", ["b"], namespace="beta"), node("b"))["validation_status"]
        == "VALID"
    )
    run_id = api.trigger("g")
    assert api.claim("Work") == []
    [state] = other.claim("Work")
    other.executed(state, {"value": "1"})
    assert [each["identifier"] for each in api.claim("Work")] == ["b"]
    assert other.get(f"states/run/{run_id}")[1]["count"] == 0


def test_defect_15_values_are_json_and_outputs_are_checked(api):
    api.register("Give", outputs={"count": "integer"})
    api.register("Take", inputs={"x": "integer", "y": "array"})
    api.upsert(
        "g",
        node("a", ["b"], "Give"),
        node("b", name="Take", inputs={"x": "${{ a.outputs.count }}", "y": [1, {"deep": True}]}),
        retry_policy={"max_retries": 0},
    )
    api.trigger("g")
    api.executed(api.claim("Give")[0], {"count": 42})
    assert api.claim("Take")[0]["inputs"] == {"x": 42, "y": [1, {"deep": True}]}
    api.trigger("g")
    [state] = api.claim("Give")
    status, answer = api.post(
        f"state/{state['state_id']}/executed", {"outputs": [{"count": "many"}]}
    )
    assert (status, answer["state_status"]) == (422, "ERRORED")
    assert "registered schema of Give" in answer["detail"]
    assert by_node(Run.objects.order_by("id").last()) == {"a": ["ERRORED"]}


@threaded
@pytest.mark.cluster
def test_defect_16_a_failing_branch_does_not_cut_the_connection(api):
    api.register("Open", outputs={})
    RegisteredNode.objects.filter(name="Open").update(outputs_schema={})
    api.register("Take", inputs={"x": "string"})
    api.upsert(
        "g",
        node("a", ["b"], "Open"),
        node("b", name="Take", inputs={"x": "${{ a.outputs.missing }}"}),
        retry_policy={"max_retries": 0},
    )
    headers = {"X-API-Key": api.key, "Content-Type": "application/json"}
    api.trigger("g")
    [state] = api.claim("Open")
    with served() as address:
        link = http.client.HTTPConnection(address.removeprefix("http://"))
        link.connect()
        socket = link.sock
        for path, body in (
            (f"state/{state['state_id']}/executed", {"outputs": [{}]}),
            ("states/enqueue", {"nodes": ["Open"], "batch_size": 1}),
        ):
            link.request("POST", f"/v0/namespace/alpha/{path}", json.dumps(body), headers)
            answer = link.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
        assert link.sock is socket
        link.close()
    assert by_node(Run.objects.get()) == {"a": ["NEXT_CREATED_ERROR"]}


def test_defect_17_a_node_reads_the_secrets_that_it_declares_while_it_is_held(api):
    api.register("Guarded", secrets=["token"])
    secret = {"token": "canary-4711", "other": "canary-4712"}
    api.upsert("g", node("a", name="Guarded"), secrets=secret)
    api.trigger("g")
    waiting = State.objects.get()
    assert api.get(f"state/{waiting.pk}/secrets")[0] == 409
    [state] = api.claim("Guarded")
    assert api.get(f"state/{state['state_id']}/secrets") == (
        200,
        {"secrets": {"token": "canary-4711"}},
    )
    assert api.last["Cache-Control"] == "no-store"
    second = Api(api_keys.create_key(["alpha"], "worker")[1])
    assert second.get(f"state/{state['state_id']}/secrets")[0] == 409
    api.executed(state, {"value": "leaked canary-4711"})
    assert api.get(f"state/{state['state_id']}/secrets")[0] == 409
    for path in (
        "graph/g",
        "graphs/",
        "states/",
        "/runs/" + state["run_id"],
        f"/runs/{state['run_id']}/states",
        "graph/g/versions/1",
    ):
        assert "canary" not in json.dumps(api.get(path)[1]), path
    stored = "".join(
        str(row)
        for table in connection.introspection.table_names()
        for row in connection.cursor().execute(f'SELECT * FROM "{table}"').fetchall()
    )
    assert "canary" not in stored
    assert api.get("graph/g")[1]["secrets"] == {"token": True, "other": True}


def test_defect_17_empty_secrets_are_refused_and_missing_ones_named(api):
    api.register("Guarded", secrets=["token"])
    api.upsert("g", node("a"), secrets={"token": ""}, status=422)
    made = api.upsert("g", node("a", name="Guarded"))
    assert (made["validation_status"], made["validation_errors"]) == (
        "INVALID",
        ["a: Guarded asks for the secret 'token'; add it to the graph"],
    )
    assert api.put("graph/g/secrets/token", {"value": "v"}) == (200, {"secrets": {"token": True}})
    assert api.get("graph/g")[1]["validation_status"] == "VALID"
    assert api("delete", "graph/g/secrets/token") == (200, {"secrets": {}})
    assert api.post("graph/g/trigger", {})[0] == 400
    assert not Secret.objects.exists()


def test_defect_18_what_a_caller_gives_is_never_read_as_a_template(api):
    api.register("Work", inputs={"x": "string", "k": "string"})
    api.upsert(
        "g",
        node("a", inputs={"x": "", "k": "${{ store.k }}"}),
        store_config={"required_keys": ["k"], "default_values": {}},
    )
    text = "${{ store.k }} ${{ a.outputs.b }} ${{"
    api.trigger("g", inputs={"x": text}, store={"k": text})
    assert api.claim("Work")[0]["inputs"] == {"x": text, "k": text}


@threaded
def test_defect_19_programs_that_start_at_the_same_moment_register_once(api):
    key = api.key
    names = [f"N{at}" for at in range(20)]

    def start(at: int) -> int:
        program = Api(key)
        program.register(*(names if at % 2 else reversed(names)))
        return program.put(
            "graph/g", {"secrets": {"s": str(at % 2)}, "nodes": [node("a", name="N0")]}
        )[0]

    assert at_once([lambda at=at: start(at) for at in range(8)]) == [201] * 8
    assert RegisteredNode.objects.filter(name__in=names).count() == 20
    assert Graph.objects.get().versions.count() == 1


def test_defect_19_a_trigger_that_can_t_be_stored_stores_nothing(api, monkeypatch):
    api.upsert("g", node("a"))

    def crash(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(start_module, "insert_lines", crash)
    with pytest.raises(KeyboardInterrupt):
        api.post("graph/g/trigger", {})
    assert (Run.objects.count(), State.objects.count()) == (0, 0)


def test_defect_20_runs_are_cancelled_filtered_measured_and_deleted(api):
    api.upsert("g", node("a", ["b"]), node("b"))
    api.upsert("h", node("a"))
    first, second = api.trigger("g"), api.trigger("h", run_id="special-2")
    assert api.post(f"run/{first}/pause")[1]["status"] == "paused"
    assert [state["run_id"] for state in api.claim("Work")] == [second]
    assert api.post(f"run/{first}/resume")[1]["status"] == "running"
    assert api.post(f"run/{first}/cancel") == (
        200,
        {"run_id": first, "status": "cancelled", "retried": None},
    )
    assert api.post(f"run/{first}/cancel")[0] == 409
    rows = {row["run_id"]: row for row in api.get("runs/1/10")[1]["runs"]}
    assert (rows[first]["status"], rows[first]["errored_count"], rows[second]["status"]) == (
        "FAILED",
        1,
        "PENDING",
    )
    for query, found in {
        "status=FAILED": [first], "status=cancelled,queued": [first], "graph=h": [second], "run_id=special": [second], "run_id=*-2": [second],
        "run_id=s*l-2": [second], "run_id=zzz": [], "created_after=2999-01-01T00:00:00Z": [], "created_before=2999-01-01T00:00:00Z": [second, first],
    }.items():  # fmt: skip
        status, answer = api.get(f"runs/1/10?{query}")
        assert (status, [row["run_id"] for row in answer["runs"]], answer["total"]) == (
            200,
            found,
            len(found),
        ), query
    assert api.get("runs/1/10?created_after=yesterday")[0] == 422
    assert api.get("runs/1/10?status=DONE")[0] == 422
    assert api.get("runs/1/10?status=cancelled&status=queued")[1]["total"] == 1
    assert [state["status"] for state in api.get("states/?status=CANCELLED")[1]["states"]] == [
        "CANCELLED"
    ]
    assert api.get("states/?graph=h")[1]["run_ids"] == [second]
    assert api.post(f"run/{first}/retry-failed") == (
        200,
        {"run_id": first, "status": "running", "retried": 1},
    )
    assert api.work("Work") == 2
    status, metrics = api.get(f"run/{first}/metrics")
    assert (
        status,
        metrics["status"],
        metrics["failure_rate"],
        [each["identifier"] for each in metrics["nodes"]],
    ) == (200, "completed", 0.0, ["a", "b"])
    assert metrics["nodes"][0]["retried"] == 1
    assert metrics["nodes"][0]["p50_seconds"] <= metrics["nodes"][0]["p95_seconds"]
    assert api.get("graph/g/metrics")[1]["runs"] == 1
    assert api("delete", "graph/h") == (200, {"status": "DELETED", "runs": 1})
    assert [row["run_id"] for row in api.get("runs/1/10")[1]["runs"]] == [first]
    assert api.get("graph/h")[0] == 404
