"""The management commands, as they are typed."""

import io
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

import statemanager
from graphs.auth import api_keys
from graphs.models import ApiKey, Dataset
from runs.models import Cluster, Run
from tests.support.clusters import ROOT, environment, free_port, until

pytestmark = pytest.mark.django_db(transaction=True)


def call(*words, **options):
    out, err = io.StringIO(), io.StringIO()
    call_command(*words, stdout=out, stderr=err, **options)
    return out.getvalue().strip(), err.getvalue()


def test_create_api_key_prints_only_the_key(namespace):
    out, err = call(
        "create_api_key", "--namespace", "alpha", "--scope", "read", "--expires", "2099-12-31"
    )
    assert re.fullmatch(r"sm_[0-9a-f]{8}_\S{43}", out)
    assert "alpha" in err
    key = api_keys.find_key(out)
    assert (key.scope, key.all_namespaces, key.expires_at.year) == ("read", False, 2099)
    out, _ = call("create_api_key")
    assert api_keys.find_key(out).all_namespaces
    ApiKey.objects.update(expires_at="2001-01-01T00:00Z")
    api_keys.forget()
    assert api_keys.find_key(out) is None
    for wrong in ("tomorrow", "2001-01-01"):
        with pytest.raises(CommandError, match=re.escape(wrong)):
            call("create_api_key", "--expires", wrong)


def test_load_dataset_and_run_graph_without_a_cluster(publish, tmp_path):
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
    (tmp_path / "bad.csv").write_text("a,b\n1\n")
    with pytest.raises(CommandError, match=r"bad\.csv, line 2"):
        call("load_dataset", "alpha/bad", str(tmp_path))
    with pytest.raises(CommandError, match="no file or folder"):
        call("load_dataset", "alpha/bad", str(tmp_path / "nowhere"))


def test_run_graph_takes_inputs_and_tells_failure(publish):
    publish("a", inputs={"a": {"value": 0}})
    out, _ = call("run_graph", "alpha/graph", "--input", "value=[1, 2]", "--wait")
    assert Run.objects.get(run_id=out).states.get().outputs == {"value": [1, 2]}
    publish("f", name="bad", kinds={"f": "test.fail"})
    with pytest.raises(CommandError, match="ended as failed: f: ValueError: broken"):
        call("run_graph", "alpha/bad", "--wait")
    with pytest.raises(
        CommandError, match=r"no graph 'alpha/nope'. These exist: alpha/bad, alpha/graph"
    ):
        call("run_graph", "alpha/nope")
    with pytest.raises(CommandError, match="KEY=VALUE"):
        call("run_graph", "alpha/graph", "--input", "value")


def test_render_run(publish, drain):
    with pytest.raises(CommandError, match="no run"):
        call("render_run")
    from runs.engine.start import start_run

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

    def answers():
        try:
            return (
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2).status == 200
            )
        except OSError:
            return False

    try:
        until(answers, 30)
        until(lambda: Cluster.objects.exists(), 30)
        assert (
            urllib.request.urlopen(f"http://127.0.0.1:{port}/admin/login/", timeout=5).status == 200
        )
        assert (
            urllib.request.urlopen(
                f"http://127.0.0.1:{port}/static/admin/css/base.css", timeout=5
            ).status
            == 200
        )
        children = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _parent(entry) == process.pid
        ]
        assert len(children) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        until(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], 5)
        assert "Created the first admin: user admin" in process.stdout.read()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stdout.close()


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
def test_wrong_settings_stop_the_start_with_a_sentence(name):
    value, sentence = WRONG[name]
    values = {**environment(), "DJANGO_SETTINGS_MODULE": "statemanager.settings", name: value}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=values, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert sentence in done.stderr


def test_a_taken_port_and_an_unmigrated_database_are_said_in_a_sentence(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CommandError, match="can't be used"):
            call("up", "--port", str(taken.getsockname()[1]))
    values = {
        **environment(),
        "DJANGO_SETTINGS_MODULE": "statemanager.settings",
        "VAR_DIR": str(tmp_path),
    }
    del values["DATABASE_URL"]
    done = subprocess.run(
        [sys.executable, "manage.py", "create_api_key"],
        cwd=ROOT,
        env=values,
        capture_output=True,
        text=True,
    )
    assert (
        done.stderr.strip()
        == "The database can't be used: no such table: statemanager_graphs_apikey. Run `manage.py migrate` first."
    )


def test_waiting_for_a_run_that_waits_for_a_person_says_so(publish):
    publish("ok", kinds={"ok": "approval"}, inputs={"ok": {"question": "Ship it?"}})
    with pytest.raises(CommandError, match=r"ok waits for an answer: Ship it\?"):
        call("run_graph", "alpha/graph", "--wait")


def test_keys_are_listed_limited_and_revoked(namespace):
    text, _ = call(
        "create_api_key",
        "--namespace",
        "alpha",
        "--scope",
        "worker",
        "--per-minute",
        "7",
        "--name",
        "mill",
    )
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
    with pytest.raises(CommandError, match="from 1"):
        call("create_api_key", "--per-minute", "0")


def test_version():
    done = subprocess.run(
        [sys.executable, "manage.py", "version"],
        cwd=ROOT,
        env={**environment(), "DJANGO_SETTINGS_MODULE": "statemanager.settings"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == (f"{statemanager.__version__}\n", 0)
    assert call("version") == (statemanager.__version__, "")
