"""The settings of the tests: those of the project, on the test database of this process.

pytest-xdist runs every test that uses a database on both (`--dist each`): half of its processes use
SQLite, and half PostgreSQL (`tests.support.scheduling`). STATEMANAGER_TEST_DATABASE (`sqlite` or
`postgresql`) chooses one database for all processes, so that they can share the tests:
`-n 2 --dist load`.

Processes that tests start inherit the environment, and so use the same folder and database.
"""

import atexit
import os
import shutil
import tempfile
from typing import Any

from tests import postgres
from tests.support.databases import database_of

TEST_DATABASE = os.environ.get("STATEMANAGER_TEST_DATABASE") or database_of(
    os.environ.get("PYTEST_XDIST_WORKER", "gw0")
)
SKIPPED_DATABASES: list[str] = []

PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "main")
DATABASE_IS_CHOSEN = "STATEMANAGER_TEST_DATABASE" in os.environ

if os.environ.get("STATEMANAGER_TEST_PROCESS") != PROCESS:  # not a process that a test started
    os.environ["STATEMANAGER_TEST_PROCESS"] = PROCESS
    os.environ.pop("STATEMANAGER_CLUSTER", None)
    os.environ["VAR_DIR"] = tempfile.mkdtemp(prefix="statemanager-tests-")
    atexit.register(shutil.rmtree, os.environ["VAR_DIR"], ignore_errors=True)
    if TEST_DATABASE == "sqlite":
        os.environ.pop("DATABASE_URL", None)
    elif PROCESS != "main" and not os.environ.get("DATABASE_URL"):
        if postgres.binaries():
            server = postgres.Server()
            atexit.register(server.close)
            os.environ["DATABASE_URL"] = server.url
        else:
            SKIPPED_DATABASES.append("postgresql (no server binaries; install postgresql)")
    if PROCESS != "main":  # in the controller, it would choose the database of both
        os.environ["STATEMANAGER_TEST_DATABASE"] = TEST_DATABASE
os.environ.setdefault("SECRET_KEY", "only-for-tests-and-as-long-as-a-real-one")
os.environ.setdefault("SECRETS_KEYS", "b25seS1mb3ItdGVzdHMtLi4uLi4uLi4uLi4uLi4uLi4=")
os.environ.setdefault("ALLOWED_HOSTS", "localhost,127.0.0.1,testserver")
os.environ.setdefault("HTTPS", "0")
os.environ.setdefault("LOG_LEVEL", "WARNING")

from statemanager.settings import *  # noqa: E402, F403

AXES_ENABLED = False  # tests log in without a request; those of logins turn it on
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # noqa: F405
WHITENOISE_AUTOREFRESH = True  # otherwise each test client lists all static files
if TEST_DATABASE == "sqlite":
    # A file, so that threads and processes share it. Tests kill processes, not the machine:
    # they need no fsync.
    DATABASE: dict[str, Any] = DATABASES["default"]  # noqa: F405
    DATABASE["TEST"] = {"NAME": str(VAR / "test.sqlite3")}  # noqa: F405
    DATABASE["OPTIONS"]["init_command"] += " PRAGMA synchronous=OFF;"
