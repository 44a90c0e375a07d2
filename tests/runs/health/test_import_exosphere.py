"""`import_states` imports the states of an Exosphere export."""

import json

import pytest
from django.core.management import CommandError, call_command

from graphs.auth import api_keys
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import Run, State
from tests.support.v0_client import V0Client, node

pytestmark = pytest.mark.django_db
OIDS = [f"64d5f0c2a1b2c3d4e5f6{at:04x}" for at in range(10)]


def row(at, **members):
    base = {
        "_id": {"$oid": OIDS[at]},
        "created_at": {"$date": f"2025-08-16T10:00:{at:02d}.123Z"},
        "updated_at": {"$date": {"$numberLong": str(1755338500000 + at)}},
        "node_name": "N",
        "namespace_name": "alpha",
        "identifier": f"n{at}",
        "graph_name": "old",
        "status": "SUCCESS",
        "inputs": {"x": "1"},
        "outputs": {"y": "2"},
        "error": None,
        "parents": {},
    }
    return {**base, **members}


ROWS = [
    row(0, run_id="r1", status="EXECUTED"),
    row(
        1,
        run_id="r1",
        parents={"n0": {"$oid": OIDS[0]}},
        status="ERRORED",
        error="broken",
        outputs=None,
    ),
    row(2),
    row(3, parents={"n2": OIDS[2]}, created_at="2025-08-16T12:00:00"),
    row(4, graph_name="other", status="QUEUED"),
    row(5, namespace_name="beta", status="PRUNED", data={"why": 1}),
]


def import_rows(tmp_path, rows, **options):
    path = tmp_path / "states.jsonl"
    lines = [json.dumps(row) if isinstance(row, dict) else row for row in rows]
    path.write_text("\n".join(lines) + "\n\n")
    call_command("import_states", str(path), verbosity=0, **options)


def test_rows_become_runs_and_importing_them_again_changes_nothing(tmp_path, capsys):
    import_rows(tmp_path, ROWS)
    assert (
        "Read 6 rows, 4 of them without a run id. 6 states and 4 runs are new."
        in capsys.readouterr().out
    )
    assert set(
        Run.objects.values_list("namespace__name", "graph__name", "run_id", "status", "trigger")
    ) == {
        ("alpha", "old", "r1", "partial", "import"),
        ("alpha", "old", "legacy-old", "completed", "import"),
        ("alpha", "other", "legacy-other", "failed", "import"),
        ("beta", "old", "legacy-old", "completed", "import"),
    }

    runs = list(Run.objects.order_by("pk").values())
    states = list(State.objects.order_by("pk").values())
    import_rows(tmp_path, ROWS)
    assert "0 states and 0 runs are new." in capsys.readouterr().out
    assert list(Run.objects.order_by("pk").values()) == runs
    assert list(State.objects.order_by("pk").values()) == states

    import_rows(tmp_path, [row(6, run_id="r1")])
    assert Run.objects.get(run_id="r1").success_count == 2


def test_imported_states_are_visible_in_the_api(tmp_path, make_key):
    import_rows(tmp_path, ROWS, default_run_id="before")
    api = V0Client(make_key("read"))
    status, answer = api.get("states/run/before-old")
    assert (status, [state["identifier"] for state in answer["states"]]) == (200, ["n2", "n3"])
    assert answer["states"][1]["parents"] == {
        "n2": f"00000000-{OIDS[2][:4]}-{OIDS[2][4:8]}-{OIDS[2][8:12]}-{OIDS[2][12:]}"
    }
    assert answer["states"][0]["created_at"] == "2025-08-16T10:00:02.123000Z"
    assert api.get(f"graph/old/run/before-old/node/{OIDS[2]}")[1]["outputs"] == {"y": "2"}
    [run] = [run for run in api.get("runs/1/10")[1]["runs"] if run["run_id"] == "r1"]
    assert (run["success_count"], run["errored_count"], run["status"]) == (1, 1, "FAILED")
    assert api.get("/runs/r1")[1]["status"] == "partial"
    assert api.get("states/run/r1/graph")[1]["edge_count"] == 1


def test_wrong_rows_stop_the_import_and_are_all_listed(tmp_path):
    rows = [
        ROWS[0],
        "{",
        "7",
        row(1, status="WHAT"),
        row(2, _id="x"),
        {"_id": OIDS[3]},
        row(4, inputs={"x": "a\x00b"}),
        row(5, graph_name="a/b"),
    ]
    with pytest.raises(CommandError) as refused:
        import_rows(tmp_path, rows)
    assert "line 1" not in str(refused.value)
    for number in range(2, 9):
        assert f"line {number}" in str(refused.value)
    assert not Run.objects.exists()
    assert not State.objects.exists()


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(CommandError, match="without --jsonArray"):
        import_rows(tmp_path, ['[{"_id": 1}]'])
    with pytest.raises(CommandError, match="can't be read"):
        call_command("import_states", str(tmp_path / "nowhere"))


def test_a_single_namespace_is_imported(tmp_path):
    import_rows(tmp_path, ROWS, namespace="beta")
    assert State.objects.count() == 1
    assert State.objects.get().outputs == {"why": 1}


def test_imported_states_are_not_added_to_an_existing_run(tmp_path, publish):
    start_run(publish("a", name="old"), RunOptions(run_id="r1"))
    import_rows(tmp_path, ROWS[:2])
    assert set(Run.objects.values_list("run_id", flat=True)) == {"r1", "r1 of graph old"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespace_name": 7},
        {"graph_name": None},
        {"run_id": 7},
        {"parents": [1]},
        {"parents": {"n1": {"$oid": OIDS[1]}}},
        {"created_at": 10**30},
        {"created_at": "0001-01-01T00:00:00+14:00"},
        {"retry_count": "abc"},
        {"retry_count": -1},
        {"retry_count": 2**40},
        {"identifier": "a\x00b"},
        {"identifier": "\ud800"},
        {"inputs": {"x": "\ud800"}},
        {"node_name": ""},
        {"status": None},
    ],
)
def test_every_wrong_value_is_reported_with_its_line(tmp_path, wrong):
    with pytest.raises(CommandError, match="line 2"):
        import_rows(tmp_path, [ROWS[0], row(1, **wrong)])
    assert not Run.objects.exists()


def test_imported_states_cannot_be_changed(tmp_path):
    """Workers can't report on them, their runs get no more states, and are not retried.

    An error with a NUL is stored without the NUL.
    """
    import_rows(
        tmp_path, [row(0, run_id="r1", error="a\x00b"), row(1, run_id="r1", status="ERRORED")]
    )
    api = V0Client(api_keys.create_key(["alpha"], "admin")[1])
    assert State.objects.get(identifier="n0").error == "ab"
    assert api.post(f"state/{OIDS[0]}/executed", {"outputs": [], "attempt": 1})[0] == 400
    assert api.post("run/r1/retry-failed")[0] == 409
    api.register("Work")
    api.upsert("old", node("a"))
    body = {"run_id": "r1", "states": [{"identifier": "a", "inputs": {}}]}
    assert api.post("graph/old/states/create", body)[0] == 409
