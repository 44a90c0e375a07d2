"""The management commands, called as people call them."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from time import monotonic

import pytest
from django.core.management import CommandError, call_command

import statemanager
from graphs.auth import api_keys
from graphs.models import ApiKey, Dataset
from runs.cluster import web_server
from runs.engine import start_many
from runs.engine.start import start_run
from runs.models import Cluster, Run
from tests.support.clusters import ROOT, environment, free_port, until

pytestmark = pytest.mark.django_db(transaction=True)


def call(*arguments, **options):
    """Call a management command, and return what it writes to stdout and to stderr."""
    out = io.StringIO()
    err = io.StringIO()
    call_command(*arguments, stdout=out, stderr=err, **options)
    return out.getvalue().strip(), err.getvalue()


def test_create_api_key_prints_only_the_key(namespace):
    out, err = call(
        "create_api_key", "--namespace", "alpha", "--scope", "read", "--expires", "2099-12-31"
    )
    assert re.fullmatch(r"sm_[0-9a-f]{8}_\S{43}", out)
    assert "alpha" in err
    key = api_keys.find_key(out)
    assert (key.scope, key.all_namespaces, key.expires_at.year) == ("read", False, 2099)


def test_an_expired_key_is_not_found(namespace):
    out, _ = call("create_api_key")
    assert api_keys.find_key(out).all_namespaces
    ApiKey.objects.update(expires_at="2001-01-01T00:00Z")
    api_keys.forget()
    assert api_keys.find_key(out) is None


def test_a_key_cannot_expire_in_the_past(namespace):
    for wrong in ("tomorrow", "2001-01-01"):
        with pytest.raises(CommandError, match=re.escape(wrong)):
            call("create_api_key", "--expires", wrong)


def test_a_dataset_is_loaded_and_a_graph_run_without_a_cluster(publish, tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n2\n")
    out, err = call("load_dataset", "alpha/things", str(tmp_path))
    assert Dataset.objects.get(pk=int(out)).name == "things"
    assert "t: 2 rows" in err
    publish(
        "r>e",
        kinds={"r": "dataset.read", "e": "table.export"},
        inputs={"r": {"table": "t"}, "e": {"table": "${{ r.outputs.table }}", "name": "o"}},
    )
    out, err = call("run_graph", "alpha/graph", "--dataset", "things", "--wait")
    run = Run.objects.get(run_id=out)
    assert (run.status, run.emitted, run.trigger) == ("completed", 2, "command")
    assert "executes the run itself" in err


def test_a_dataset_that_cannot_be_read_is_refused(namespace, tmp_path):
    (tmp_path / "bad.csv").write_text("a,b\n1\n")
    with pytest.raises(CommandError, match=r"bad\.csv, line 2"):
        call("load_dataset", "alpha/bad", str(tmp_path))
    with pytest.raises(CommandError, match="no file or folder"):
        call("load_dataset", "alpha/bad", str(tmp_path / "nowhere"))


def test_run_graph_accepts_inputs(publish):
    publish("a", inputs={"a": {"value": 0}})
    out, _ = call("run_graph", "alpha/graph", "--input", "value=[1, 2]", "--wait")
    assert Run.objects.get(run_id=out).states.get().outputs == {"value": [1, 2]}


def test_run_graph_reports_a_failed_run(publish):
    publish("f", name="bad", kinds={"f": "test.fail"})
    with pytest.raises(CommandError, match="ended as failed: f: ValueError: broken"):
        call("run_graph", "alpha/bad", "--wait")


def test_run_graph_refuses_an_unknown_graph_and_a_wrong_input(publish):
    publish("a")
    publish("f", name="bad")
    with pytest.raises(
        CommandError, match=r"no graph 'alpha/nope'. These exist: alpha/bad, alpha/graph"
    ):
        call("run_graph", "alpha/nope")
    with pytest.raises(CommandError, match="KEY=VALUE"):
        call("run_graph", "alpha/graph", "--input", "value")


def test_render_run_needs_a_run(publish):
    with pytest.raises(CommandError, match="no run"):
        call("render_run")


def test_render_run_draws_a_run(publish, drain):
    run = start_run(publish("a>b"))
    drain()
    out, _ = call("render_run", run.run_id)
    assert out.startswith("<svg")
    assert out.count("✔ noop") == 2


def test_up_serves_and_stops_without_orphans(publish, tmp_path):
    port = str(free_port())
    command = [sys.executable, "-m", "django", "up", "--port", port, "--workers", "1"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(ADMIN_PASSWORD="x"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def serves(path):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).status == 200
        except OSError:
            return False

    try:
        until(lambda: serves("/healthz"), 30)
        until(lambda: Cluster.objects.exists(), 30)
        assert serves("/admin/login/")
        assert serves("/static/admin/css/base.css")
        children = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _parent(entry) == process.pid
        ]
        assert len(children) == 2
        _assert_started_again(process, children, lambda: serves("/healthz"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        until(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], 5)
        assert "Created the first admin: user admin" in process.stdout.read()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stdout.close()


def _assert_started_again(process, children, serves):
    """The web server ends, as granian does when it loses workers; `up` goes on with another."""
    [web] = [pid for pid in children if b"granian" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    started_at = monotonic()
    until(lambda: monotonic() - started_at > web_server.START_SECONDS, 20)  # its start has worked
    os.killpg(web, signal.SIGKILL)
    until(lambda: not serves(), 10)
    until(serves, 30)
    assert process.poll() is None


def _parent(entry):
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


WRONG = {
    "WORKERS": ("abc", "WORKERS must be a number"),
    "LEASE_SECONDS": ("0", "LEASE_SECONDS must be between 1 and 3600"),
    "HTTPS": ("perhaps", "HTTPS must be one of"),
    "DATABASE_URL": ("mysql://x", "must start with postgresql:// or sqlite:///"),
    "NODE_THREADS": ("1.5", "NODE_THREADS must be a whole number"),
    "SECRET_KEY_FILE": ("/no/such/file", "SECRET_KEY_FILE names a file that can't be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_stop_the_start_with_a_message(name):
    value, message = WRONG[name]
    values = {**environment(), "DJANGO_SETTINGS_MODULE": "statemanager.settings", name: value}
    process = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=values, capture_output=True, text=True
    )
    assert process.returncode != 0
    assert message in process.stderr


def test_up_refuses_a_port_that_is_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CommandError, match="can't be used"):
            call("up", "--port", str(taken.getsockname()[1]))


def test_a_database_without_tables_is_reported_with_a_message(tmp_path):
    values = {
        **environment(),
        "DJANGO_SETTINGS_MODULE": "statemanager.settings",
        "VAR_DIR": str(tmp_path),
    }
    del values["DATABASE_URL"]
    process = subprocess.run(
        [sys.executable, "manage.py", "create_api_key"],
        cwd=ROOT,
        env=values,
        capture_output=True,
        text=True,
    )
    assert (
        process.stderr.strip()
        == "The database can't be used: no such table: statemanager_graphs_apikey."
        " Run `manage.py migrate` first."
    )


def test_run_graph_stops_waiting_for_a_run_that_waits_for_an_answer(publish):
    publish("ok", kinds={"ok": "approval"}, inputs={"ok": {"question": "Ship it?"}})
    with pytest.raises(CommandError, match=r"ok waits for an answer: Ship it\?"):
        call("run_graph", "alpha/graph", "--wait")


def test_keys_are_listed_limited_and_revoked(namespace):
    options = "--namespace alpha --scope worker --per-minute 7 --name mill"
    text, _ = call("create_api_key", *options.split())
    call("create_api_key", "--scope", "read")
    out, _ = call("api_keys")
    assert "worker  alpha  mill  7/min" in out
    assert "read  all namespaces" in out
    assert text.split("_", 2)[2] not in out
    prefix = text.split("_")[1]
    assert call("revoke_api_key", prefix)[0] == "1 revoked."
    assert api_keys.find_key(text) is None
    assert prefix not in call("api_keys", "--usable")[0]
    assert prefix in call("api_keys", "--namespace", "alpha")[0]
    with pytest.raises(CommandError, match="no key beef"):
        call("revoke_api_key", "beef")


def test_the_limit_of_a_key_is_at_least_one_request(namespace):
    with pytest.raises(CommandError, match="from 1"):
        call("create_api_key", "--per-minute", "0")


def test_version_prints_the_version():
    process = subprocess.run(
        [sys.executable, "manage.py", "version"],
        cwd=ROOT,
        env={**environment(), "DJANGO_SETTINGS_MODULE": "statemanager.settings"},
        capture_output=True,
        text=True,
    )
    assert (process.stdout, process.returncode) == (f"{statemanager.__version__}\n", 0)
    assert call("version") == (statemanager.__version__, "")


# --- start_runs ----------------------------------------------------------------------------------


def test_start_runs_starts_a_run_for_each_row(publish, tmp_path):
    publish("a")
    file = tmp_path / "orders.csv"
    file.write_text("order,value\nfirst,1\nsecond,2\n")
    command = (
        "start_runs",
        "alpha/graph",
        str(file),
        "--run-id-column",
        "order",
        "--priority",
        "5",
    )
    assert call(*command)[0] == "2 runs are started."
    file.write_text("order,value\nfirst,1\nsecond,2\nthird,3\n")
    call(*command)
    runs = Run.objects.order_by("run_id")
    assert [(run.run_id, run.initial_data, run.priority) for run in runs] == [
        ("first", {"value": 1}, 5),
        ("second", {"value": 2}, 5),
        ("third", {"value": 3}, 5),
    ]
    assert {run.trigger for run in runs} == {"command"}


def test_rows_that_are_too_large_together_start_in_parts(publish, tmp_path, monkeypatch):
    publish("a")
    file = tmp_path / "orders.csv"
    file.write_text("value\n" + "x\n" * 10)
    monkeypatch.setattr(start_many, "MAX_STATES", 3)
    assert (
        call("start_runs", "alpha/graph", str(file))[0].splitlines()[-1] == "10 runs are started."
    )
    assert Run.objects.count() == 10


def test_run_ids_are_as_the_file_has_them(publish, tmp_path):
    publish("a")
    file = tmp_path / "orders.csv"
    file.write_text("order,value\n1.50,1\n007,2\n")
    call("start_runs", "alpha/graph", str(file), "--run-id-column", "order")
    assert set(Run.objects.values_list("run_id", flat=True)) == {"1.50", "007"}


def test_start_runs_takes_json_lines_with_nested_inputs(publish, tmp_path):
    publish("a")
    file = tmp_path / "orders.jsonl"
    file.write_text('{"value": {"deep": [1]}}\n{"value": null}\n')
    call("start_runs", "alpha/graph", str(file))
    inputs = Run.objects.order_by("id").values_list("initial_data", flat=True)
    assert list(inputs) == [{"value": {"deep": [1]}}, {"value": None}]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("order,value\nsame,1\nsame,2\n", "runs/1: another run of the request has the run id"),
        ("order,value\n,1\n", "A row has no run id"),
        ("name,value\nx,1\n", "no column 'order'"),
        ("order,value\n", "has no rows"),
        ('order,value\n"x,1\n', "orders.csv"),
    ],
)
def test_start_runs_starts_nothing_of_a_file_with_a_problem(publish, tmp_path, content, problem):
    publish("a")
    file = tmp_path / "orders.csv"
    file.write_text(content)
    with pytest.raises(CommandError, match=problem):
        call("start_runs", "alpha/graph", str(file), "--run-id-column", "order")
    assert not Run.objects.exists()
