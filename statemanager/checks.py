"""System checks of the installation: what `manage.py check` says before anything runs."""

import sqlite3
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.db import connection

from runs.health.probes import MIN_VERSIONS


@register("database")
def sqlite_is_new_enough(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if connection.vendor != "sqlite" or sqlite3.sqlite_version_info >= MIN_VERSIONS["SQLite"]:
        return []
    return [
        Error(
            f"SQLite {sqlite3.sqlite_version} is too old: {'.'.join(map(str, MIN_VERSIONS['SQLite']))} or newer is needed for RETURNING.",
            id="statemanager.E001",
        )
    ]


@register()
def leases_outlive_heartbeats(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if settings.HEARTBEAT_SECONDS * 2 <= settings.LEASE_SECONDS:
        return []
    return [
        Error(
            "HEARTBEAT_SECONDS must be at most half of LEASE_SECONDS, or busy workers lose their states.",
            id="statemanager.E002",
        )
    ]
