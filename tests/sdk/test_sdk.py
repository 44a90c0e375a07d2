"""Programs written for Exosphere run unchanged: only the URL and the key are State Manager's."""

import json
import subprocess
from pathlib import Path

import pytest

from graphs.auth import api_keys
from runs.models import Run
from tests.sdk import provide
from tests.support.clusters import served
from tests.support.invariants import assert_counters_agree
from tests.support.runs import by_node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.cluster]
PROGRAM = Path(__file__).parent / "program.py"


@pytest.mark.parametrize("version", provide.VERSIONS)
def test_a_program_for_this_version_of_the_sdk_runs_unchanged(version, namespace):
    python = provide.environment(version)
    if python is None:
        pytest.skip("exospherehost (no Python 3.12 or newer)")
    key = api_keys.create_key(["alpha"], "admin")[1]
    with served() as uri:
        program = subprocess.run(
            [python, str(PROGRAM), version, uri, key, "alpha"],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert program.returncode == 0, program.stderr[-3000:]
    assert "Failed" not in program.stderr, program.stderr[-3000:]
    shown = json.loads(program.stdout)
    run = Run.objects.get()
    assert by_node(run) == {
        "head": ["SUCCESS"],
        "start": ["SUCCESS"] * 4,
        "flaky": ["RETRY_CREATED", "SUCCESS", "SUCCESS", "PRUNED", "SUCCESS"],
        "guarded": ["SUCCESS"] * 3,
        "root": ["SUCCESS"] * 3,
        "close": ["SUCCESS"],
    }
    assert_counters_agree(run)
    [row] = shown["rows"]
    assert row["status"] == "SUCCESS"
    assert (row["retried_count"], row["success_count"], row["total_count"]) == (1, 16, 17)
    guarded = [state for state in shown["states"] if state["identifier"] == "guarded"]
    texts = sorted(state["outputs"]["text"] for state in guarded)
    assert texts == [f"got {at}{at}:21:•••" for at in (0, 1, 3)], "the secret is read and masked"
    pruned = [state["data"] for state in shown["states"] if state["status"] == "PRUNED"]
    if version == "0.0.2b2":  # its signals and triggers carry no data
        assert pruned == [{}]
        assert (run.store, run.initial_data) == ({}, {})
    else:
        assert pruned == [{"item": "2"}]
        assert (run.store, run.initial_data) == ({"who": "me"}, {"count": "given"})
