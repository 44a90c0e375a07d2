"""`python -m tests.chaos.worker`: an external worker that claims `ext.work` over REST and reports it, and goes on whatever becomes of the server."""

import json
import os
import urllib.error
import urllib.request
from time import sleep
from typing import Any

URL, KEY = os.environ["WORKER_URL"], os.environ["WORKER_KEY"]


def post(path: str, body: Any) -> Any:
    request = urllib.request.Request(
        f"{URL}/v0/namespace/alpha/{path}",
        json.dumps(body).encode(),
        {"X-API-Key": KEY, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def main() -> None:
    reports: list[dict[str, Any]] = []
    while True:
        try:
            answer = post(
                "states/report",
                {
                    "reports": reports,
                    "nodes": ["ext.work"],
                    "batch_size": 4,
                    "worker": str(os.getpid()),
                },
            )
        except (OSError, ValueError):
            sleep(0.2)  # the server is away
            continue
        reports = []
        for state in answer["states"]:
            sleep(0.02)  # its work
            reports.append(
                {
                    "state_id": state["state_id"],
                    "attempt": state["attempt"],
                    "outputs": [{"value": state["inputs"]["value"]}],
                }
            )
        if not reports:
            sleep(0.1)


if __name__ == "__main__":
    main()
