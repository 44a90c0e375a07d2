"""A Django project of somebody else that installs the wheel, on both databases.

The shop has its own users, admin site, API, addresses, language and django-q2 cluster. Nothing of
this repository but the wheel is on its path. It runs on this Python with SQLite, and on the newest
one that there is with PostgreSQL.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import pytest
import urllib3

from tests import postgres
from tests.hosts import environments
from tests.sdk import provide
from tests.support.clusters import until

pytestmark = pytest.mark.cluster
LOGIN = "/back-office/login/"
ORDER = {"nodes": [{"id": "a", "kind": "noop"}], "edges": []}
DOWNLOADS = re.compile(r"export\.|bundle\.json|/download|graph\.")


class Shop:
    """The shop in a folder of its own, with its database, and the processes that it runs."""

    def __init__(self, python: Path, folder: Path, variables: dict[str, str]) -> None:
        self._python = python
        self.folder = folder
        shutil.copytree(Path(__file__).parent / "shop", folder, dirs_exist_ok=True)
        (folder / "var").mkdir()
        self._environment = {
            "PATH": os.environ["PATH"],
            "SHOP_VAR": str(folder / "var"),
            **variables,
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._http = urllib3.PoolManager(retries=False, timeout=30)
        self.headers: dict[str, str] = {}

    def manage(self, *arguments: str) -> str:
        """What a management command prints. It must succeed."""
        done = subprocess.run(
            [self._python, "manage.py", *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Warning" not in done.stderr, done.stderr
        return done.stdout

    def evaluate(self, expression: str) -> str:
        """The value of a Python expression in the shop, as text."""
        imports = "from shop.models import *; from runs.models import *"
        return self.manage("shell", "-v", "0", "-c", f"{imports}; print({expression})").strip()

    @contextmanager
    def running(self, *arguments: str) -> Iterator[None]:
        """Run a management command until the block ends."""
        with (self.folder / f"{arguments[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                [self._python, "manage.py", *arguments],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(30)
                finally:
                    if process.poll() is None:
                        os.killpg(process.pid, signal.SIGKILL)

    def request(self, method: str, path: str, body: object = None) -> urllib3.BaseHTTPResponse:
        headers = {**self.headers, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        return self._http.request(
            method, f"{self.address}{path}", body=data, headers=headers, redirect=False
        )

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        return self.request("GET", path)

    def log_in(self, email: str, password: str) -> None:
        """Log in by the shop's page. Later requests have the session's cookie."""
        page = self.get(LOGIN)
        csrf = re.findall(r"csrftoken=(\w+)", page.headers["Set-Cookie"])[0]
        fields = {"username": email, "password": password, "csrfmiddlewaretoken": csrf}
        headers = {"Cookie": f"csrftoken={csrf}"}
        url = f"{self.address}{LOGIN}"
        answer = self._http.request_encode_body(
            "POST", url, fields, headers, encode_multipart=False, redirect=False
        )
        assert answer.status == 302, answer.data
        session = re.findall(r"sessionid=(\w+)", answer.headers["Set-Cookie"])[0]
        self.headers = {"Cookie": f"sessionid={session}"}

    def answers(self) -> bool:
        try:
            return self.get(LOGIN).status == 200
        except urllib3.exceptions.HTTPError:
            return False


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shop(request, tmp_path_factory):
    """The shop, migrated, with its graph, an API key, a web server and our supervisor."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    variables, server = {}, None
    python = sys.executable
    if request.param == "postgresql":
        server = postgres.Server()
        variables["SHOP_POSTGRESQL_PORT"] = str(server.port)
        python = provide.python() or python
    installed = environments.environment(shared, python)
    shop = Shop(installed, tmp_path_factory.mktemp("shop"), variables)
    try:
        shop.manage("migrate", "-v", "0")
        shop.manage("publish", "graph_files")
        key = shop.manage("create_api_key", "--namespace", "default", "--scope", "admin")
        shop.headers = {"X-API-Key": re.findall(r"sm_\S+", key)[-1]}
        port = shop.address.rpartition(":")[2]
        with shop.running("supervise"), shop.running("runserver", "--noreload", port):
            until(shop.answers, 30)
            yield shop
    finally:
        if server:
            server.close()


def test_the_project_is_sound_and_needs_no_migration(shop):
    assert "no issues" in shop.manage("check", "--fail-level", "WARNING")
    assert "No changes" in shop.manage("makemigrations", "--check", "--dry-run")


def test_a_start_commits_and_rolls_back_with_the_order(shop):
    assert json.loads(shop.get("/orders/a-17/").data) == {"run": "order-a-17"}
    assert json.loads(shop.get("/orders/b-18/?cancel=1").data) == {"run": "order-b-18"}
    run = until(lambda: _ended(shop, "order-a-17"), 30)
    assert run["status"] == "completed"
    assert [line["message"] for line in run["logs"]][1:] == ["priced a-17"]
    assert shop.get("/ops/runs/order-b-18").status == 404
    assert shop.evaluate("list(Order.objects.values_list('run_id', flat=True))") == "['order-a-17']"


def test_the_api_keeps_its_own_manners_and_the_shop_keeps_its(shop):
    made = shop.request("POST", "/ops/graphs", {"name": "mine", **ORDER})
    assert (made.status, json.loads(made.data)["name"]) == (201, "mine")
    wrong = shop.request("POST", "/ops/graphs", {"nam": "mine"})
    assert (wrong.status, wrong.headers["Content-Type"]) == (422, "application/problem+json")
    assert len(json.loads(shop.get("/ops/runs").data)["runs"]) >= 0
    shop_key, shop.headers = shop.headers, {}
    try:
        refused = shop.get("/ops/runs")
        shops_own = shop.get("/stock/")
    finally:
        shop.headers = shop_key
    assert (refused.status, refused.headers["Content-Type"]) == (401, "application/problem+json")
    assert shops_own.status == 418


def test_the_clusters_of_both_take_only_their_own_tasks(shop):
    with shop.running("qcluster"):
        shop.evaluate(
            "__import__('django_q.tasks').tasks.async_task('shop.views.count_stock', 'x')"
        )
        shop.get("/orders/c-19/")
        counted = "Order.objects.filter(reference='counted x').count()"
        until(lambda: shop.evaluate(counted) == "1", 30)
        assert until(lambda: _ended(shop, "order-c-19"), 30)["status"] == "completed"
    tasks = "list(__import__('django_q.models').models.Task.objects.values_list('func', 'success'))"
    assert shop.evaluate(tasks) == "[('shop.views.count_stock', True)]"


def test_every_page_is_below_the_address_that_the_shop_chose(shop):
    """Walk from the list of runs to everything that it leads to."""
    shop.get("/orders/d-20/")
    until(lambda: _ended(shop, "order-d-20"), 30)
    shop.manage(
        "shell",
        "-v",
        "0",
        "-c",
        "from shop.models import *; Customer.objects.create_superuser('boss@shop.example', 'x')",
    )
    key, shop.headers = shop.headers, {}
    try:
        shop.log_in("boss@shop.example", "x")
        seen = _walk(shop, ["/ops/admin/run-manager/", "/back-office/"])
    finally:
        shop.headers = key
    kinds = {re.sub(r"\d+", "N", path) for path in seen}
    assert {
        "/ops/admin/run-manager/run/N/",
        "/ops/admin/run-manager/inbox/",
        "/ops/admin/run-manager/schedules/",
        "/ops/admin/flow/",
        "/ops/admin/run-states/",
        "/ops/admin/run-manager/health/",
        "/back-office/statemanager_runs/run/",
        "/back-office/statemanager_graphs/namespacemembership/add/",
    } <= kinds


def _ended(shop, run_id):
    run = json.loads(shop.get(f"/ops/runs/{run_id}").data)
    return run if run.get("finished_at") else None


def _walk(shop, todo):
    """All pages that these lead to. Each answers, and leads nowhere beside the shop's addresses."""
    seen = set()
    while todo:
        path = todo.pop()
        kind = re.sub(r"\d+", "N", path)
        if kind in seen:
            continue
        seen.add(kind)
        page = shop.get(path)
        if 300 <= page.status < 400:
            todo.append(urljoin(path, page.headers["Location"]))
            continue
        assert page.status == 200, f"{path} answers {page.status}"
        text = page.data.decode()
        names = r'(?:href|action|hx-get|hx-post)="([^"#]+)"'
        for target in map(unescape, re.findall(names, text)):
            address = urljoin(path, target).partition("?")[0]
            if target.startswith(("http:", "https:", "data:")) or address.startswith("/assets/"):
                continue
            known = ("/ops/", "/back-office/")
            assert address == "/" or address.startswith(known), f"{path} leads to {target}"
        for target in map(unescape, re.findall(r'<a[^>]* href="([^"#]+)"', text)):
            address = urljoin(path, target).partition("?")[0]
            is_page = address.startswith(("/ops/", "/back-office/")) and "logout" not in address
            if is_page and not DOWNLOADS.search(address):
                todo.append(address)
    return {re.sub(r"\d+", "N", path) for path in seen}
