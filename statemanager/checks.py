"""System checks of the installation, which Django runs before every command."""

import difflib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.db import connection

from runs.health.probes import MIN_VERSIONS
from statemanager.conf import NAMES, TYPES, conf

NEEDED_APPS = (
    "django.contrib.admin",
    "django.contrib.humanize",
    "rest_framework",
    "graphs",
    "runs",
    "django_q",
    "django_htmx",
)


@register("database")
def sqlite_is_new_enough(
    app_configs: Sequence[AppConfig] | None, **options: object
) -> list[CheckMessage]:
    minimum = MIN_VERSIONS["SQLite"]
    if connection.vendor != "sqlite" or sqlite3.sqlite_version_info >= minimum:
        return []
    return [
        Error(
            f"SQLite {sqlite3.sqlite_version} is too old. State Manager needs SQLite "
            f"{'.'.join(map(str, minimum))} or newer, because it uses RETURNING.",
            hint="Use a Python with a newer SQLite, or set DATABASE_URL to a PostgreSQL server.",
            id="statemanager.E001",
        )
    ]


@register()
def settings_are_known(
    app_configs: Sequence[AppConfig] | None, **options: object
) -> list[CheckMessage]:
    """A misspelt name would be ignored, and the default used instead."""
    given = getattr(settings, "STATE_MANAGER", {})
    found: list[CheckMessage] = []
    for name in sorted(given.keys() - NAMES):
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"Did you mean {near[0]}?" if near else "docs/settings.md lists them."
        found.append(
            Error(f"STATE_MANAGER has no setting {name!r}.", hint=hint, id="statemanager.E003")
        )
    for name in sorted(given.keys() & NAMES):
        kinds = TYPES[name]
        if not isinstance(given[name], kinds) or (given[name] is True and bool not in kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            text = f"{name} in STATE_MANAGER must be {wanted}, not {given[name]!r}."
            found.append(Error(text, id="statemanager.E004"))
    return found


@register()
def files_have_a_place(
    app_configs: Sequence[AppConfig] | None, **options: object
) -> list[CheckMessage]:
    """Datasets and files of runs must not lie where everybody may fetch them."""
    if conf.STORAGE:
        return []
    if not conf.FILES_DIR:
        text = "FILES_DIR in STATE_MANAGER names no folder for datasets and the files of runs."
        hint = "Name a folder that no web server serves, or set STORAGE to an alias of STORAGES."
        return [Error(text, hint=hint, id="statemanager.E005")]
    folder = Path(conf.FILES_DIR).resolve()
    served = [
        Path(place).resolve() for place in (settings.MEDIA_ROOT, settings.STATIC_ROOT) if place
    ]
    if any(folder.is_relative_to(place) for place in served):
        text = f"FILES_DIR ({folder}) is in a folder that web servers serve to everybody."
        hint = "Name one outside of MEDIA_ROOT and STATIC_ROOT."
        return [Error(text, hint=hint, id="statemanager.E006")]
    return []


@register()
def apps_are_installed(
    app_configs: Sequence[AppConfig] | None, **options: object
) -> list[CheckMessage]:
    """The templates and tables of these apps are used."""
    missing = [name for name in NEEDED_APPS if not apps.is_installed(name)]
    if not missing:
        return []
    text = f"State Manager needs {', '.join(missing)} in INSTALLED_APPS."
    return [
        Error(text, hint="Add them after statemanager, graphs and runs.", id="statemanager.E007")
    ]


@register("database")
def sqlite_waits_for_its_lock(
    app_configs: Sequence[AppConfig] | None, **options: object
) -> list[CheckMessage]:
    """Otherwise a transaction that reads first fails as soon as another one has written."""
    options_given = connection.settings_dict.get("OPTIONS", {})
    if connection.vendor != "sqlite" or options_given.get("transaction_mode") == "IMMEDIATE":
        return []
    text = "Transactions on SQLite don't take the write lock when they begin, so some would fail."
    hint = (
        'Set DATABASES["default"]["OPTIONS"] to {"transaction_mode": "IMMEDIATE", "timeout": 20, '
        '"init_command": "PRAGMA journal_mode=WAL;"}.'
    )
    return [Error(text, hint=hint, id="statemanager.E008")]


@register()
def leases_outlive_heartbeats(
    app_configs: Sequence[AppConfig] | None, **options: object
) -> list[CheckMessage]:
    if not isinstance(conf.LEASE_SECONDS, int | float) or isinstance(conf.HEARTBEAT_SECONDS, str):
        return []  # E004 says so
    if conf.HEARTBEAT_SECONDS * 2 <= conf.LEASE_SECONDS:
        return []
    return [
        Error(
            f"HEARTBEAT_SECONDS is {conf.HEARTBEAT_SECONDS:g}, which is more than half of "
            f"LEASE_SECONDS ({conf.LEASE_SECONDS:g}). One late heartbeat would cost a busy "
            "worker its states.",
            hint=f"Set HEARTBEAT_SECONDS to {conf.LEASE_SECONDS / 2:g} or less, "
            "or raise LEASE_SECONDS.",
            id="statemanager.E002",
        )
    ]
