"""`python -m tests.chaos.worker`: an external worker that executes `ext.work` over REST.

It keeps trying, whatever happens to the server.
"""

import json
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from time import sleep
from typing import Any

URL = os.environ["WORKER_URL"]
KEY = os.environ["WORKER_KEY"]


def post(path: str, body: Any) -> Any:
    request = urllib.request.Request(
        f"{URL}/v0/namespace/alpha/{path}",
        json.dumps(body).encode(),
        {"X-API-Key": KEY, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def report(reports: list[dict[str, Any]]) -> Any:
    """Send the reports and claim more states in the same request."""
    body = {
        "reports": reports,
        "nodes": ["ext.work"],
        "batch_size": 4,
        "worker": str(os.getpid()),
    }
    return post("states/report", body)


def execute(state: dict[str, Any]) -> dict[str, Any]:
    sleep(0.02)
    return {
        "state_id": state["state_id"],
        "attempt": state["attempt"],
        "outputs": [{"value": state["inputs"]["value"]}],
    }


def main() -> None:
    reports: list[dict[str, Any]] = []
    while True:
        try:
            answer = report(reports)
        except (OSError, ValueError, HTTPException):
            sleep(0.2)  # the server is away
            continue
        reports = [execute(state) for state in answer["states"]]
        if not reports:
            sleep(0.1)


if __name__ == "__main__":
    main()
