"""Settings from environment variables: what is given arrives, or is refused with a message."""

import json
import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from statemanager import env

URL = "postgresql://ann@db.example.org/state"


def test_every_option_of_the_database_url_reaches_the_connection(monkeypatch):
    monkeypatch.setenv(
        "DATABASE_URL", f"{URL}?sslmode=verify-full&sslrootcert=/etc/ca.pem&connect_timeout=3"
    )
    assert env.database_options("DATABASE_URL") == {
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ca.pem",
        "connect_timeout": "3",
    }
    assert env.database("DATABASE_URL")["HOST"] == "db.example.org"


@pytest.mark.parametrize("query", ["sslmod=verify-full", "options=-c%20x=y", "password=x", "x"])
def test_an_option_that_would_be_dropped_stops_the_start(monkeypatch, query):
    monkeypatch.setenv("DATABASE_URL", f"{URL}?{query}")
    with pytest.raises(ImproperlyConfigured, match=query.partition("=")[0]):
        env.database_options("DATABASE_URL")


def test_a_url_without_options_has_none(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", URL)
    assert env.database_options("DATABASE_URL") == {}


def test_the_settings_notice_hosts_that_vanish(run_settings):
    options = run_settings(DATABASE_URL=f"{URL}?sslmode=require&connect_timeout=3")
    assert options["sslmode"] == "require"
    assert options["connect_timeout"] == "3", "the URL wins"
    assert options["tcp_user_timeout"] == 20_000
    assert options["keepalives_idle"] == 10
    assert "plan_cache_mode" in options["options"]


@pytest.fixture
def run_settings(tmp_path):
    """The connection options that a process with these variables has."""

    def run(**variables):
        code = (
            "import json; from statemanager import settings; "
            "print(json.dumps(settings.DATABASES['default']['OPTIONS']))"
        )
        environment = {
            **os.environ,
            "VAR_DIR": str(tmp_path),
            "SECRET_KEY": "k" * 50,
            "SECRETS_KEYS": "b25seS1mb3ItdGVzdHMtLi4uLi4uLi4uLi4uLi4uLi4=",
            "ALLOWED_HOSTS": "example.org",
            **variables,
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    return run
