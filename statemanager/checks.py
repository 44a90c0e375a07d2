"""System checks of the installation, which Django runs before every command."""

import sqlite3
from collections.abc import Sequence

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register
from django.db import connection

from runs.health.probes import MIN_VERSIONS
from statemanager.conf import conf


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
def leases_outlive_heartbeats(
    app_configs: Sequence[AppConfig] | None, **options: object
) -> list[CheckMessage]:
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
