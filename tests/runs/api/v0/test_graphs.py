"""Graph templates: which are refused, which are stored as invalid, and their versions.

Programs put their template at every start. That changes nothing that people set elsewhere.
"""

import pytest

from graphs.models import Graph, GraphVersion
from tests.support.v0_client import node

pytestmark = pytest.mark.django_db
MALFORMED = {
    "no secrets": {"nodes": []},
    "no nodes": {"secrets": {}},
    "secret no text": {"secrets": {"a": 1}, "nodes": [node("a")]},
    "blank node name": {"secrets": {}, "nodes": [node("a", name=" ")]},
    "blank identifier": {"secrets": {}, "nodes": [node(" ")]},
    "reserved identifier": {"secrets": {}, "nodes": [node("store")]},
    "blank next node": {"secrets": {}, "nodes": [node("a", [" "])]},
    "repeated next node": {"secrets": {}, "nodes": [node("a", ["b", "b"]), node("b")]},
    "blank unites": {"secrets": {}, "nodes": [node("a", unites={"identifier": ""})]},
    "unknown strategy": {
        "secrets": {},
        "nodes": [node("a", unites={"identifier": "a", "strategy": "SOME"})],
    },
    "inputs no object": {"secrets": {}, "nodes": [node("a", inputs=["x"])]},
    **{
        f"retry {key}": {"secrets": {}, "nodes": [node("a")], "retry_policy": {key: value}}
        for key, value in {
            "max_retries": -1,
            "strategy": "QUICK",
            "backoff_factor": 0,
            "exponent": 0,
            "max_delay": 0,
        }.items()
    },
    "store key with a dot": {
        "secrets": {},
        "nodes": [node("a")],
        "store_config": {"required_keys": ["a.b"]},
    },
    "store key twice": {
        "secrets": {},
        "nodes": [node("a")],
        "store_config": {"required_keys": ["a", " a "]},
    },
    "blank store key": {
        "secrets": {},
        "nodes": [node("a")],
        "store_config": {"default_values": {" ": "x"}},
    },
    "unknown trigger": {
        "secrets": {},
        "nodes": [node("a")],
        "triggers": [{"type": "WEBHOOK", "value": {}}],
    },
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_template_is_a_422(api, case):
    status, answer = api.put("graph/g", MALFORMED[case])
    assert (status, isinstance(answer["detail"], list)) == (422, True)
    assert not Graph.objects.exists()


UNSOUND = {
    "empty": ([], "one root"),
    "repeated identifier": ([node("a"), node("a")], "'a'"),
    "unknown next node": ([node("a", ["z"])], "'z'"),
    "unknown unites": ([node("a", ["b"]), node("b", unites={"identifier": "z"})], "'z'"),
    "unites itself": ([node("a", ["b"]), node("b", unites={"identifier": "b"})], "itself"),
    "two roots": ([node("a"), node("b")], "one root"),
    "no root": ([node("a", ["b"]), node("b", ["a"])], "one root"),
    "disconnected": ([node("a"), node("b", unites={"identifier": "a"})], "disconnected"),
    "cycle": ([node("a", ["b"]), node("b", ["c"]), node("c", ["b"])], "cycle"),
    "placeholder not closed": ([node("a", inputs={"x": "${{ store.k"})], "not closed"),
    "placeholder of no form": ([node("a", inputs={"x": "${{ what }}"})], "what"),
    "reference to no ancestor": (
        [node("a", ["b", "c"]), node("b"), node("c", inputs={"x": "${{ b.outputs.value }}"})],
        "b.outputs.value",
    ),
    "unknown store key": ([node("a", inputs={"x": "${{ store.k }}"})], "'k'"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_an_unsound_structure_is_a_400_and_the_older_version_remains(api, case):
    api.upsert("g", node("a"))
    nodes, message = UNSOUND[case]
    answer = api.upsert("g", *nodes, status=400)
    assert message in answer["detail"]
    assert api.get("graph/g")[1]["validation_status"] == "VALID"
    assert GraphVersion.objects.count() == 1


def test_all_mistakes_are_listed_at_once(api):
    answer = api.upsert(
        "g",
        node("a", ["z"], inputs={"x": "${{ store.k }}"}),
        node("b", unites={"identifier": "y"}),
        node("b"),
        status=400,
    )
    for message in ("'z'", "'k'", "'y'", "'b' is used by 2 nodes"):
        assert message in answer["detail"]
    assert len(answer["errors"]) >= 4


def test_a_template_that_does_not_fit_the_registered_nodes_is_stored_as_invalid(api):
    api.register("Take", inputs={"x": "string"}, secrets=["token"])
    stored = api.upsert(
        "g",
        node("a", ["b"], "Missing"),
        node("b", ["c"], "Take"),
        node("c", name="Take", inputs={"x": "${{ b.outputs.missing }}", "surplus": "accepted"}),
    )
    assert stored["validation_status"] == "INVALID"
    problems = "\n".join(stored["validation_errors"])
    for message in (
        "no node 'Missing'",
        "the secret 'token'",
        "Take needs the input 'x'",
        "no output 'missing'",
    ):
        assert message in problems
    assert "surplus" not in problems
    assert api.get("graph/g")[1]["validation_errors"] == stored["validation_errors"]
    status, answer = api.post("graph/g/trigger", {})
    assert (status, "no node 'Missing'" in answer["detail"]) == (400, True)


def test_a_graph_put_before_its_nodes_becomes_valid_when_they_are_registered(api):
    assert api.upsert("g", node("a", name="Late"))["validation_status"] == "INVALID"
    api.register("Late")
    assert api.get("graph/g")[1]["validation_status"] == "VALID"
    api.trigger("g")


def test_putting_the_same_template_again_makes_no_new_version_and_keeps_other_settings(api):
    api.upsert("g", node("a", ["b"]), node("b"))
    graph = Graph.objects.get()
    definition = graph.current.definition
    definition["nodes"][0] |= {"label": "First", "position": {"x": 1, "y": 2}}
    definition["nodes"][0]["data"]["timeout"] = 7
    definition["edges"][0]["data"] = {"when": "outputs.value == 'x'"}
    definition["settings"]["max_failures"] = 3
    body = {member: definition[member] for member in ("nodes", "edges", "settings")}
    assert api("put", f"/graphs/{graph.pk}", body)[0] == 200

    for _ in range(2):
        assert api.upsert("g", node("a", ["b"]), node("b"))["version"] == 2
    assert api.upsert("g", node("a", ["b"]), node("b", ["c"]), node("c"))["version"] == 3
    stored = Graph.objects.get().current.definition
    first = stored["nodes"][0]
    assert (first["label"], first["data"]["timeout"]) == ("First", 7)
    assert stored["settings"]["max_failures"] == 3
    assert stored["edges"][0]["data"] == {"when": "outputs.value == 'x'"}


def test_versions_are_listed_read_and_rolled_back(api):
    for names in ("a", "ab", "abc"):
        api.upsert(
            "g",
            *(
                node(name, [following] if following else None)
                for name, following in zip(names, [*names[1:], ""], strict=True)
            ),
        )
    run_id = api.trigger("g")
    status, answer = api.get("graph/g/versions")
    assert [(version["version"], version["current"]) for version in answer["versions"]] == [
        (3, True),
        (2, False),
        (1, False),
    ]
    second = api.get("graph/g/versions/2")[1]
    assert [node["identifier"] for node in second["nodes"]] == ["a", "b"]
    assert api.get("graph/g/versions/9")[0] == 404
    assert api.get("graph/g/versions/x")[0] == 422
    assert api.post("graph/g/rollback", {"version": 9})[0] == 404
    status, answer = api.post("graph/g/rollback", {"version": 1})
    assert (status, answer["version"], len(answer["nodes"])) == (200, 1, 1)
    api.trigger("g")
    assert api.work("Work") == 4
    assert api.get(f"states/run/{run_id}")[1]["count"] == 3
    assert api.upsert("g", node("a", ["b"]), node("b"))["version"] == 4


def test_a_node_with_a_wrong_schema_is_refused(api):
    body = {
        "runtime_name": "r",
        "nodes": [
            {
                "name": "X",
                "inputs_schema": {"type": "nonsense"},
                "outputs_schema": {},
                "secrets": [],
            }
        ],
    }
    assert api.put("nodes/", body)[0] == 422
    body["nodes"][0]["inputs_schema"] = {"$ref": "http://127.0.0.1:1/schema.json"}
    assert api.put("nodes/", body)[0] == 422


def test_an_identifier_may_be_called_run(api):
    api.register("Take", inputs={"x": "string"})
    api.upsert(
        "g", node("run", ["b"]), node("b", name="Take", inputs={"x": "${{ run.outputs.value }}"})
    )
    api.trigger("g")
    api.work("Work")
    assert api.claim("Take")[0]["inputs"] == {"x": "x"}


def test_schedules_and_secrets_of_people_remain_when_the_template_is_put_again(api):
    """Programs put their template at every start, but these settings are not theirs."""
    api.register("Guarded", secrets=["token"])
    cron = [{"type": "CRON", "value": {"expression": "0 9 * * *"}}]
    api.upsert("g", node("a", name="Guarded"), secrets={"old": "value"}, triggers=cron)
    api.put("graph/g/secrets/token", {"value": "by hand"})
    graph = Graph.objects.get()
    graph.triggers.create(expression="0 10 * * *")
    stored = api.upsert("g", node("a", name="Guarded"))
    assert (stored["validation_status"], stored["secrets"]) == ("VALID", {"token": True})
    assert [trigger["value"]["expression"] for trigger in stored["triggers"]] == ["0 10 * * *"]


def test_a_template_may_set_the_length_of_leases(api):
    stored = api.upsert("g", node("a", ["b"], lease=5000), node("b"), lease=120)
    assert (stored["lease"], stored["nodes"][0]["lease"]) == (120, 5000)
    assert "lease" not in stored["nodes"][1]
    api.trigger("g")
    [state] = api.claim("Work")
    assert state["lease_seconds"] == 5000
    api.executed(state)
    assert api.claim("Work")[0]["lease_seconds"] == 120
    api.upsert("g", node("a", lease=0), status=422)


def test_a_schedule_that_could_not_start_shows_its_error(api):
    api.upsert("g", node("a"), triggers=[{"type": "CRON", "value": {"expression": "0 9 * * *"}}])
    Graph.objects.get().triggers.update(error="The store keys k are required.")
    assert api.get("graph/g")[1]["triggers"][0]["error"] == "The store keys k are required."


def test_a_template_is_checked_alone_and_runs_keep_their_version(api):
    api.register("Take", inputs={"x": "string"})
    api.upsert(
        "g", node("a", ["b"]), node("b", name="Take", inputs={"x": "${{ a.outputs.value }}"})
    )
    run_id = api.trigger("g")
    renamed = api.upsert(
        "g", node("b", ["a"]), node("a", name="Take", inputs={"x": "${{ b.outputs.value }}"})
    )
    assert (renamed["validation_status"], renamed["validation_errors"]) == ("VALID", [])
    assert renamed["version"] == 2
    api.executed(api.claim("Work")[0], {"value": "1"})
    [state] = api.claim("Take")
    assert (state["identifier"], state["inputs"], state["run_id"]) == ("b", {"x": "1"}, run_id)


def test_a_graph_is_read_as_it_was_put(api):
    policy = {
        "max_retries": 7,
        "strategy": "LINEAR_FULL_JITTER",
        "backoff_factor": 11,
        "exponent": 3,
        "max_delay": 99,
    }
    store = {"required_keys": ["k"], "default_values": {"d": "v"}}
    cron = [{"type": "CRON", "value": {"expression": "5 4 * * *"}}]
    api.upsert("g", node("a"), retry_policy=policy, store_config=store, triggers=cron)
    read = api.get("graph/g")[1]
    assert (read["retry_policy"], read["store_config"], read["triggers"]) == (policy, store, cron)
    api.upsert("g", node("a"))
    assert api.get("graph/g")[1]["retry_policy"]["max_retries"] == 3
    assert api.get("graph/g")[1]["triggers"] == []
