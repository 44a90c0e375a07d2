"""The unmodified SDK against a served State Manager: it differs from Exosphere by its URL and its
key only.
"""

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
def test_a_program_of_this_version_runs_unchanged(version, namespace):
    if (python := provide.environment(version)) is None:
        pytest.skip("exospherehost (no Python 3.12 or newer)")
    key = api_keys.create_key(["alpha"], "admin")[1]
    with served() as uri:
        done = subprocess.run(
            [python, str(PROGRAM), version, uri, key, "alpha"],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Failed" not in done.stderr, done.stderr[-3000:]
    seen = json.loads(done.stdout)
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
    [row] = seen["rows"]
    assert (row["status"], row["retried_count"], row["success_count"], row["total_count"]) == (
        "SUCCESS",
        1,
        16,
        17,
    )
    said = sorted(
        state["outputs"]["said"] for state in seen["states"] if state["identifier"] == "guarded"
    )
    assert said == [
        f"got {at}{at}:21:•••" for at in (0, 1, 3)
    ]  # the secret was read, and is shown nowhere
    assert [state["data"] for state in seen["states"] if state["status"] == "PRUNED"] == [
        {} if version == "0.0.2b2" else {"item": "2"}
    ]
    assert (run.store, run.initial_data) == (
        ({"who": "me"}, {"count": "given"}) if version != "0.0.2b2" else ({}, {})
    )
