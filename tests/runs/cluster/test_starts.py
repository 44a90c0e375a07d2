"""Why a cluster doesn't start is kept, shown, and forgotten once it starts."""

import os
import subprocess
import sys

import pytest
from django.urls import reverse

from runs.cluster import supervisor as supervisors
from runs.cluster.error_output import MAX_REASON, ErrorOutput
from runs.health import doctor
from runs.models import Cluster
from tests.support.clusters import environment, until

pytestmark = pytest.mark.django_db(transaction=True)


def output_of(program, **values):
    """What is kept of the error output of a Python program."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, env={**os.environ, **values}
    )
    output = ErrorOutput(process.stderr)
    process.wait()
    return output.last()


def test_the_last_of_the_error_output_is_kept(capfd):
    text = output_of("import sys; [sys.stderr.write(f'line {n}\\n') for n in range(100_000)]")
    assert text.endswith("line 99998\nline 99999")
    assert len(text) <= MAX_REASON
    passed_on = capfd.readouterr().err
    assert passed_on.startswith("line 0\nline 1\n")
    assert passed_on.endswith("line 99999\n")


def test_a_long_line_is_not_kept_whole():
    assert len(output_of("import sys; sys.stderr.write('x' * 10_000_000)")) <= MAX_REASON


def test_secrets_in_the_error_output_are_masked(settings, monkeypatch):
    monkeypatch.setenv("BILLING_API_TOKEN", "canary-token-4711")
    program = (
        "import os, sys;"
        "sys.stderr.write(os.environ['BILLING_API_TOKEN'] + '\\0' + os.environ['MORE'])"
    )
    text = output_of(
        program, MORE=f" {settings.SECRET_KEY} postgresql://ann:canary-pass@db.example/x"
    )
    for secret in ("canary-token-4711", settings.SECRET_KEY, "canary-pass", "\x00"):
        assert secret not in text
    assert "@db.example/x" in text


@pytest.fixture
def broken_app(tmp_path, monkeypatch):
    """An installed app of the clusters that this test starts. Returns its module of nodes."""
    package = tmp_path / "odd_app"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, value in environment(APPS="odd_app").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return package / "nodes.py"


@pytest.fixture
def supervisor(conf):
    conf.PROBE_SECONDS = 1
    supervisor = supervisors.Supervisor(1)
    yield supervisor
    supervisor.stop()


def ticks(supervisor, condition, seconds=60):
    """Let the supervisor work until the condition holds."""

    def holds():
        supervisor.tick()
        return condition()

    until(holds, seconds)


def start_error():
    return Cluster.objects.values_list("start_error", flat=True).first() or ""


@pytest.mark.cluster
def test_a_broken_module_of_nodes_is_shown_and_picked_up_once_it_is_mended(
    broken_app, supervisor, admin_client
):
    broken_app.write_text("import no_such_package_of_ours\n")
    ticks(supervisor, lambda: supervisor.restarts == 3)
    assert supervisor._failed_starts == 3, "the pauses grow"
    assert "its process ended with 1" in start_error()
    assert "No module named 'no_such_package_of_ours'" in start_error()
    [finding] = [each for each in doctor.examine() if "does not start" in each.message]
    assert finding.level == "error"
    assert "No module named 'no_such_package_of_ours'" in finding.message
    page = admin_client.get(reverse("run_health")).content.decode()
    assert "no_such_package_of_ours" in page
    findings = admin_client.get("/admin/run-manager/doctor").json()["findings"]
    assert any("no_such_package_of_ours" in each["said"] for each in findings)

    broken_app.write_text("")
    ticks(supervisor, lambda: Cluster.objects.answered().exists() and not start_error())
    assert not [each for each in doctor.examine() if "does not start" in each.message]
    assert supervisor.restarts == 3


@pytest.mark.cluster
def test_a_start_that_is_too_slow_says_where_it_was(broken_app, supervisor, monkeypatch):
    monkeypatch.setattr(supervisors, "START_SECONDS", 3.0)
    broken_app.write_text("import time\ntime.sleep(600)  # a slow import\n")
    ticks(supervisor, lambda: supervisor.restarts == 1)
    assert "no sign of life" in start_error()
    assert f'File "{broken_app}", line 2 in <module>' in start_error()


@pytest.mark.cluster
def test_an_exit_at_the_start_is_shown(broken_app, supervisor):
    broken_app.write_text("raise SystemExit('the licence has expired')\n")
    ticks(supervisor, lambda: supervisor.restarts == 1)
    assert start_error().splitlines() == ["its process ended with 1", "the licence has expired"]
