"""`python -m tests.upgrade.make VERSION`: makes the installation that the upgrade test starts from.

The installation has runs in every status. It is made through the REST API and the commands, on
SQLite (a file) and on PostgreSQL (a dump). Run the command once for each release and commit the
result, the folder tests/upgrade/VERSION. Never make an existing one again.
"""

import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.postgres import Server, binaries

HERE = Path(__file__).parent
SECRETS_KEYS = "b25seS1mb3ItdGVzdHMtLi4uLi4uLi4uLi4uLi4uLi4="
GRAPHS: dict[str, Any] = {
    "steps": {
        "nodes": [
            {"id": "list", "kind": "fan_out", "data": {"inputs": {"items": [1, 2, 3]}}},
            {
                "id": "say",
                "kind": "log",
                "data": {"inputs": {"message": "${{ list.outputs.item }}"}},
            },
            {"id": "end", "kind": "noop", "data": {"unites": {"identifier": "list"}}},
        ],
        "edges": [{"from": "list", "to": "say"}, {"from": "say", "to": "end"}],
    },
    "asks": {
        "nodes": [
            {"id": "approve", "kind": "approval", "data": {"inputs": {"question": "Go on?"}}},
            {"id": "end", "kind": "noop"},
        ],
        "edges": [{"from": "approve", "to": "end"}],
    },
    "fails": {
        "nodes": [
            {"id": "begin", "kind": "noop"},
            {
                "id": "call",
                "kind": "http.request",
                "data": {"inputs": {"url": "http://127.0.0.1:9/"}, "retry": {"max_retries": 0}},
            },
        ],
        "edges": [{"from": "begin", "to": "call"}],
    },
    "fails at once": {
        "nodes": [
            {
                "id": "call",
                "kind": "http.request",
                "data": {"inputs": {"url": "http://127.0.0.1:9/"}, "retry": {"max_retries": 0}},
            }
        ],
        "edges": [],
    },
    "exports": {
        "nodes": [
            {"id": "read", "kind": "dataset.read", "data": {"inputs": {"table": "orders"}}},
            {
                "id": "write",
                "kind": "table.export",
                "data": {"inputs": {"table": "${{ read.outputs.table }}", "name": "orders.csv"}},
            },
        ],
        "edges": [{"from": "read", "to": "write"}],
    },
}


def fill() -> None:
    """Fill the database of this process with graphs and runs."""
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.files.uploadedfile import SimpleUploadedFile
    from django.core.management import call_command
    from rest_framework.test import APIClient

    from runs.engine import claim
    from runs.engine.executor import Executor

    call_command("migrate", verbosity=0)
    User.objects.create_superuser("ann", password="ann")
    client = APIClient()
    client.force_login(User.objects.get())
    client.raise_request_exception = True

    def send(method: str, path: str, body: Any = None, **options: Any) -> Any:
        response = getattr(client, method)(path, body, **{"format": "json", **options})
        assert response.status_code < 300, (path, response.status_code, response.content[:500])
        return response.json() if response.content else None

    def drain() -> None:
        while Executor(threads=False).drain():
            pass

    orders = SimpleUploadedFile("orders.csv", b"order,items\n1,2\n3,4\n")
    upload = {"name": "orders", "namespace": "shop", "files": orders}
    dataset = send("post", "/datasets", upload, format="multipart")["id"]
    graphs = {
        name: send("post", "/graphs", {"name": name, "namespace": "shop", **definition})["id"]
        for name, definition in GRAPHS.items()
    }

    def start(graph: str, run_id: str, **body: Any) -> None:
        query = f"?dataset_id={dataset}" if graph == "exports" else ""
        send("post", f"/graphs/{graphs[graph]}/run{query}", {"run_id": run_id, **body})

    start("steps", "completed", labels={"team": "sales"}, inputs={"limit": 5})
    start("exports", "exported")
    start("fails", "partial")
    start("fails at once", "failed")
    start("asks", "waiting")
    start("asks", "answered")
    start("steps", "deleted")
    drain()
    [state] = send("get", "/runs/answered/states")["states"]
    send("post", f"/runs/answered/states/{state['id']}/answer", {"approved": True})
    drain()
    send("post", "/rerun/completed", {})
    drain()
    send("delete", "/runs/deleted")
    start("steps", "cancelled")
    send("post", "/runs/cancelled/cancel")
    start("steps", "paused")
    send("post", "/runs/paused/pause")
    send(
        "post",
        "/start",
        {"thread_id": "external", "sop": "Find it", "initial_data": {"a": 1}, "namespace": "shop"},
    )
    send("post", "/runs/external/mark", {"node": "search", "event": "started"})
    send(
        "post", "/runs/external/mark", {"node": "search", "event": "completed", "output": {"n": 3}}
    )
    send("post", "/templates", {"name": "every night", "run_id": "completed"})
    start("steps", "running")
    claimed = claim.claim("lost host:1", [claim.Group(["fan_out"], 1)], 1, claim.FactsCache())
    assert claimed  # its worker is lost, and its lease will be over when the upgrade starts
    start("steps", "queued")
    path = "/admin/run-manager/bulk-operations"
    send("post", path, {"action": "archive", "ids": ["cancelled"], "reason": "old"})
    send("post", "/admin/run-manager/saved-views", {"name": "mine", "query": "status=failed"})


def environment(folder: Path, url: str | None) -> dict[str, str]:
    """The environment of an installation in `folder`, on the database at `url` or on SQLite."""
    values = {
        "DJANGO_SETTINGS_MODULE": "statemanager.settings",
        "VAR_DIR": str(folder),
        "SECRET_KEY": "only-for-tests-and-as-long-as-a-real-one",
        "SECRETS_KEYS": SECRETS_KEYS,
        "ALLOWED_HOSTS": "testserver,localhost",
        "HTTPS": "0",
    }
    return {**os.environ, **values, **({"DATABASE_URL": url} if url else {})}


def make(folder: Path, url: str | None) -> None:
    """Make an installation in another process, which has its environment."""
    command = [sys.executable, "-m", "tests.upgrade.make", "--fill"]
    subprocess.run(command, env=environment(folder, url), check=True)


def main(version: str) -> None:
    target = HERE / version
    target.mkdir()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, None)
        with sqlite3.connect(folder / "db.sqlite3") as database:
            database.execute("VACUUM INTO ?", [str(folder / "copy.sqlite3")])
        (target / "db.sqlite3.gz").write_bytes(
            gzip.compress((folder / "copy.sqlite3").read_bytes(), mtime=0)
        )
        shutil.copytree(folder / "files", target / "files")
    server = Server()
    try:
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), server.url)
        pg_dump = shutil.which("pg_dump") or f"{binaries()}/pg_dump"
        dump = [pg_dump, "--inserts", "--no-owner", "--no-privileges", server.url]
        text = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
        lines = [line for line in text.splitlines() if not line.startswith("\\")]  # psql commands
        (target / "dump.sql.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    finally:
        server.close()


if __name__ == "__main__":
    if sys.argv[1] == "--fill":
        fill()
    else:
        main(sys.argv[1])
        print(json.dumps(sorted(path.name for path in (HERE / sys.argv[1]).iterdir())))
