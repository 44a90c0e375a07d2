"""A migrated SQLite file, kept between runs of the tests: migrating takes some seconds."""

import hashlib
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import django
from django.db import connection

ROOT = Path(__file__).parent.parent.parent
# What decides about tables and about the rows that `migrate` makes.
SOURCES = (
    "graphs/migrations/*.py",
    "graphs/models/*.py",
    "graphs/nodes/*.py",
    "runs/migrations/*.py",
    "runs/models/*.py",
    "runs/nodes.py",
    "tests/nodes.py",
)


def copied() -> bool:
    """Copy the kept file, if there is one of these sources, to where the test database is made."""
    if connection.vendor != "sqlite" or not _kept().exists():
        return False
    shutil.copyfile(_kept(), connection.settings_dict["TEST"]["NAME"])
    return True


def keep() -> None:
    if connection.vendor != "sqlite" or _kept().exists():
        return
    draft = _kept().with_suffix(f".{os.getpid()}")
    with closing(sqlite3.connect(draft)) as file:
        connection.connection.backup(file)
    draft.replace(_kept())


def _kept() -> Path:
    digest = hashlib.sha256(django.__version__.encode())
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    name = f"statemanager-migrated-{os.getuid()}-{digest.hexdigest()[:16]}.sqlite3"
    return Path(tempfile.gettempdir()) / name
