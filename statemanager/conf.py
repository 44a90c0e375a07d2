"""The settings of State Manager: the dict STATE_MANAGER in the settings of the Django project.

    STATE_MANAGER = {"FILES_DIR": "/srv/shop/runs", "SECRETS_KEYS": ["…"]}

`conf.NAME` is the value that the dict has for NAME, or else the default below. In the project of
this repository, environment variables of the same names fill the dict (`statemanager.settings`).
"""

import os
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from django.conf import settings


def _types(annotation: Any) -> tuple[type, ...]:
    """The types of the values that a setting may have."""
    if annotation is float:
        return (int, float)
    if annotation == tuple[str, ...] or annotation == list[str]:
        return (list, tuple)
    return (
        get_args(annotation)
        if isinstance(annotation, UnionType)
        else (get_origin(annotation) or annotation,)
    )


class Conf:
    """The names, types and defaults. Times are in seconds, sizes in bytes."""

    # A state whose worker is silent for the length of its lease is given to another worker.
    LEASE_SECONDS: float = 30.0
    # The lease of an external worker is longer, because many of them send no heartbeats.
    WORKER_LEASE_SECONDS: float = 900.0
    # How often the sweeper recovers leases, fires schedules and repeats lost hints.
    SWEEP_SECONDS: float = 5.0
    # How often the supervisor probes its cluster. It replaces it after three missed probes.
    PROBE_SECONDS: float = 4.0
    # How long a stopping cluster waits for running nodes.
    GRACE_SECONDS: float = 10.0
    # The longest time that a node may run in a worker process.
    NODE_TIMEOUT_SECONDS: float = 600.0
    # Worker processes of a cluster, and nodes that may wait for the network in each of them.
    WORKERS: int = min(os.cpu_count() or 2, 4)
    NODE_THREADS: int = 16
    # The largest JSON value that is stored, and the most that the states of a run may store.
    MAX_PAYLOAD_BYTES: int = 2 * 2**20
    MAX_RUN_BYTES: int = 2**30
    # Runs that have ended are deleted this many days after they were created; 0 keeps them.
    RETENTION_DAYS: int = 0
    # Whether nodes and webhooks may reach addresses of the internal network.
    ALLOW_PRIVATE_ADDRESSES: bool = False
    # Where people reach the site, for links in messages: https://runs.example.org
    PUBLIC_URL: str = ""
    # The applications that `langgraph.run` may run, as name: "package.module.function".
    LANGGRAPH_APPS: dict[str, str] = {}
    # Keys for the secrets of graphs. The first one encrypts, and all of them decrypt.
    SECRETS_KEYS: list[str] = []
    # The alias in STORAGES of the storage for datasets and files of runs; "" for FILES_DIR.
    STORAGE: str = ""
    # The folder for datasets and files of runs. It must not be one that a web server serves.
    FILES_DIR: str | Path = ""
    # Who may call the API: classes of REST framework that set `request.auth` to a Caller.
    AUTHENTICATION_CLASSES: tuple[str, ...] = (
        "graphs.api.authentication.ApiKeyAuthentication",
        "graphs.api.authentication.SessionAuthentication",
    )
    # Whether a pooler such as pgbouncer gives a connection to each transaction, and the URL of a
    # direct connection, on which workers wait for notifications.
    DATABASE_POOLED: bool = False
    DATABASE_LISTEN_URL: str = ""

    @property
    def HEARTBEAT_SECONDS(self) -> float:  # noqa: N802  # named as in the dict
        """How often leases are renewed. By default three times per lease: one may be late."""
        return self.LEASE_SECONDS / 3

    def __getattribute__(self, name: str) -> Any:
        if name.isupper():
            given = getattr(settings, "STATE_MANAGER", {})
            if name in given:
                return given[name]
        return super().__getattribute__(name)


NAMES = frozenset(name for name in vars(Conf) if name.isupper())
TYPES: dict[str, tuple[type, ...]] = {
    "HEARTBEAT_SECONDS": (int, float),
    **{name: _types(annotation) for name, annotation in Conf.__annotations__.items()},
}
conf = Conf()
