"""Stores a migrated SQLite file between test sessions, because migrating takes seconds."""

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
# The files that determine the tables and the rows that `migrate` creates.
SOURCES = (
    "requirements.txt",
    "statemanager/settings.py",
    "graphs/migrations/*.py",
    "graphs/models/*.py",
    "graphs/nodes/*.py",
    "runs/migrations/*.py",
    "runs/models/*.py",
    "runs/nodes.py",
    "tests/nodes.py",
)


def restore() -> bool:
    """Copy the stored file to the test database; return False if there is none."""
    if connection.vendor != "sqlite" or not _stored_file().exists():
        return False
    shutil.copyfile(_stored_file(), connection.settings_dict["TEST"]["NAME"])
    return True


def store() -> None:
    """Store a copy of the test database, if there is none for these sources yet."""
    if connection.vendor != "sqlite" or _stored_file().exists():
        return
    draft = _stored_file().with_suffix(f".{os.getpid()}")
    with closing(sqlite3.connect(draft)) as file:
        connection.connection.backup(file)
    draft.replace(_stored_file())


def _stored_file() -> Path:
    """The file for the current sources: its name contains their digest."""
    digest = hashlib.sha256(django.__version__.encode())
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    name = f"statemanager-migrated-{os.getuid()}-{digest.hexdigest()[:16]}.sqlite3"
    return Path(tempfile.gettempdir()) / name
