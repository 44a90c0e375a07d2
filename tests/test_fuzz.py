"""Schemathesis compares the API with its schema: no 5xx, and no answer that the schema lacks.

A served instance gets examples, boundary values, random values and chains of operations. The run is
short by default; `--fuzz-examples 200` makes it longer.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphs.auth import api_keys
from runs.engine.start import start_run
from tests.support.clusters import served
from tests.support.v0_client import V0Client, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.cluster]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@pytest.fixture
def admin_key(publish: Any) -> str:
    """A key for everything; the database has a graph, runs and claimed states to work with."""
    key = api_keys.create_key((), "admin")[1]
    start_run(publish("a>b"))
    api = V0Client(key)
    api.register("Work")
    api.upsert(
        "g",
        node("a", ["b"]),
        node("b"),
        secrets={"s": "v"},
        triggers=[{"type": "CRON", "value": {"expression": "0 9 * * *"}}],
    )
    for _ in range(3):
        api.trigger("g")
    api.claim("Work")
    return key


# The transport is imported first, because importing it deep in a generated case could reach the
# recursion limit (CPython gh-106905).
TOOL = (
    "import schemathesis.transport.asgi; from schemathesis.cli import schemathesis; schemathesis()"
)
# Requests with any names, and requests in a namespace and a graph that exist: only these let
# chains of operations reach something.
OPTIONS = {
    "any names": [
        "--phases=examples,coverage,fuzzing,stateful",
        "--exclude-path-regex=/wait$",  # it is meant to take its time
    ],
    "existing names": [
        "--phases=fuzzing,stateful",
        "--exclude-method=DELETE",
        "--include-path-regex=^/v0/namespace/",
    ],
}
PARAMETERS = {
    "any names": "",
    "existing names": '[parameters]\nns = "alpha"\ngraph = "g"\n',
}


@pytest.mark.parametrize("mode", list(OPTIONS))
def test_every_answer_is_one_that_the_schema_describes(
    mode: str, admin_key: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    examples = request.config.getoption("--fuzz-examples")
    (tmp_path / "schemathesis.toml").write_text(PARAMETERS[mode])
    with served() as address:
        command = [
            *(sys.executable, "-c", TOOL, "run", f"{address}/schema"),
            f"--header=X-API-Key: {admin_key}",
            f"--checks={','.join(CHECKS)}",
            f"--max-examples={examples}",
            "--warnings=off",
            "--suppress-health-check=all",
            "--workers=2",
            "--generation-database=none",
            "--request-timeout=20",
            *OPTIONS[mode],
        ]
        process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    print(process.stdout[-3000:])
    assert process.returncode == 0, process.stdout[-20_000:]
