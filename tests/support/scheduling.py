"""Shares the tests among the processes of pytest-xdist: each database runs its tests once.

`--dist each` would run every test in each process. Here the processes of one database share them,
file by file, so that fixtures of modules are made once. The long ones begin first: outages, the
browser tests, which share a server, and the other chaos tests. More than two chaos tests at once
would disturb each other.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController, parse_tx_spec_config

from tests.support.databases import database_of

UNITS = ("tests/chaos/test_outages.py", "tests/browser/", "tests/chaos/")


def order(items: list[pytest.Item]) -> None:
    """Sort the tests so that the long units of work come first."""
    items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    """The place of the unit that a test belongs to; len(UNITS) if it belongs to its file only."""
    places = (place for place, unit in enumerate(UNITS) if nodeid.startswith(unit))
    return next(places, len(UNITS))


class _SharedByFile(LoadFileScheduling):
    """Shares the tests among the processes of one database."""

    def _split_scope(self, nodeid: str) -> str:
        place = _place(nodeid)
        return UNITS[place] if place < len(UNITS) else str(super()._split_scope(nodeid))


class EachDatabase:
    """A scheduler of pytest-xdist that consists of one for each database."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        self._session: Any = config.pluginmanager.get_plugin("session")
        processes = [database_of(f"gw{at}") for at in range(len(parse_tx_spec_config(config)))]
        self._schedulers = {database: _SharedByFile(config, log) for database in set(processes)}
        for database, scheduler in self._schedulers.items():
            scheduler.numnodes = processes.count(database)

    def _of(self, node: WorkerController) -> _SharedByFile:
        return self._schedulers[database_of(node.gateway.id)]

    @property
    def nodes(self) -> list[WorkerController]:
        return [node for scheduler in self._schedulers.values() for node in scheduler.nodes]

    @property
    def collection_is_completed(self) -> bool:
        return all(scheduler.collection_is_completed for scheduler in self._schedulers.values())

    @property
    def tests_finished(self) -> bool:
        return all(scheduler.tests_finished for scheduler in self._schedulers.values())

    @property
    def has_pending(self) -> bool:
        return any(scheduler.has_pending for scheduler in self._schedulers.values())

    def add_node(self, node: WorkerController) -> None:
        self._of(node).add_node(node)

    def remove_node(self, node: WorkerController) -> str | None:
        return self._of(node).remove_node(node)

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        self._of(node).add_node_collection(node, collection)

    def mark_test_complete(
        self, node: WorkerController, item_index: int, duration: float = 0
    ) -> None:
        self._of(node).mark_test_complete(node, item_index, duration)

    def mark_test_pending(self, item: str) -> None:
        raise NotImplementedError

    def remove_pending_tests_from_node(
        self, node: WorkerController, indices: Sequence[int]
    ) -> None:
        raise NotImplementedError

    def schedule(self) -> None:
        for scheduler in self._schedulers.values():
            scheduler.schedule()
        # pytest-xdist counts the tests of one process; the progress is that of all databases.
        collections = [
            collection
            for scheduler in self._schedulers.values()
            for collection in scheduler.registered_collections.values()
        ]
        self._session.testscollected = len(set().union(*collections))
