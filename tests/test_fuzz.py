"""The whole API against its own schema (Schemathesis): no 5xx, and no answer that the schema
doesn't tell of.

A served instance gets examples, boundary values, random ones and chains of operations (stateful). A
short run by default; `--fuzz-examples 200` makes it longer.
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
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)


@pytest.fixture
def things(publish: Any) -> str:
    """A key that opens everything, and something of each kind to find."""
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


# Its transports are imported first: deep in a generated case the import could hit the limit of
# recursion (CPython gh-106905).
TOOL = (
    "import schemathesis.transport.asgi; from schemathesis.cli import schemathesis; schemathesis()"
)
ANYWHERE = ["--phases", "examples,coverage,fuzzing,stateful"]
THERE = [
    "--phases",
    "fuzzing,stateful",
    "--exclude-method",
    "DELETE",
    "--include-path-regex",
    "^/v0/namespace/",
]
FOUND = """
[parameters]
ns = "alpha"
graph = "g"
"""


@pytest.mark.parametrize("mode", ["anywhere", "there"])
def test_no_request_is_answered_with_what_the_schema_does_not_say(
    mode: str, things: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Anywhere: with any names. There: in a namespace and a graph that exist, so that chains of
    operations lead somewhere.
    """
    examples = request.config.getoption("--fuzz-examples")
    (tmp_path / "schemathesis.toml").write_text(FOUND if mode == "there" else "")
    with served() as address:
        command = [
            sys.executable,
            "-c",
            TOOL,
            "run",
            f"{address}/schema",
            "--header",
            f"X-API-Key: {things}",
        ]
        command += [
            "--checks",
            CHECKS,
            "--max-examples",
            str(examples),
            "--warnings",
            "off",
            *(THERE if mode == "there" else ANYWHERE),
        ]
        command += [
            "--suppress-health-check",
            "all",
            "--workers",
            "2",
            "--generation-database",
            "none",
            "--request-timeout",
            "20",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-20_000:]
