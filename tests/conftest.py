"""Fixtures that most tests use, and the last line that names every group which could not run."""

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection

from graphs import models
from graphs.auth import api_keys
from graphs.models import Graph, Namespace
from graphs.nodes import declared
from graphs.nodes.base import registry
from graphs.services.publish import publish_graph
from graphs.web import ttl_cache
from runs.engine.executor import Executor
from runs.engine.start import RunOptions, start_run
from runs.models import Run
from runs.queries import diagram
from runs.worker_api import claims
from tests import nodes
from tests.settings import SKIPPED_DATABASES, TEST_DATABASE, TEST_DATABASES


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-kills", type=int, default=20, help="random kills per database in the chaos tests"
    )
    parser.addoption("--chaos-busy-only", action="store_true", help="kill nothing but busy workers")
    parser.addoption(
        "--chaos-rounds",
        type=int,
        default=0,
        help="every action at every failpoint so often; 0: one kill at each",
    )
    parser.addoption(
        "--outage-minutes",
        type=float,
        default=0,
        help="for so long PostgreSQL crashes every 5 to 40 s; 0: twice",
    )
    parser.addoption(
        "--fuzz-examples",
        type=int,
        default=5,
        help="examples of each API operation in the fuzz test",
    )
    parser.addoption(
        "--model-steps", type=int, default=0, help="examples of the model test (0: a short run)"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SKIPPED_DATABASES:
            item.add_marker(pytest.mark.skip(reason=SKIPPED_DATABASES[0]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "report":
                terminalreporter.write_line(text)
    reasons = {
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple)
    }
    terminalreporter.config.stash[SKIPPED] = sorted(reasons)


SKIPPED = pytest.StashKey[list[str]]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    if skipped := config.stash.get(SKIPPED, []):
        print(f"skipped groups: {'; '.join(skipped)}")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """The test database has the name that child processes are given."""


@pytest.fixture(autouse=True)
def _fresh_caches() -> None:
    """Ids start again after a flush, so what was cached by id is forgotten."""
    for each in (api_keys, declared, ttl_cache, claims, models, diagram):
        each.forget()
    cache.clear()


@pytest.fixture
def database() -> str:
    return TEST_DATABASE


@pytest.fixture
def namespace(db: None) -> Namespace:
    registry.store()
    return Namespace.objects.get_or_create(name="alpha")[0]


@pytest.fixture
def publish(namespace: Namespace) -> Callable[..., Graph]:
    """publish("a>b>d a>c>d", kinds={"a": "fan_out"}, inputs={"a": {…}}, …): a graph drawn as text."""

    def make(drawing: str, name: str = "graph", **options: Any) -> Graph:
        return publish_graph(
            options.pop("namespace", namespace), name, definition(drawing, **options)
        )

    return make


def definition(
    drawing: str,
    kinds: dict[str, str] | None = None,
    inputs: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    when: dict[str, str] | None = None,
    namespaces: dict[str, str] | None = None,
    **members: Any,
) -> dict[str, Any]:
    """A definition from chains like "a>b>c"; nodes are `noop` unless `kinds` says otherwise; `when` is {"a>b": condition}."""
    kinds, inputs, data, when = kinds or {}, inputs or {}, data or {}, when or {}
    ids: list[str] = []
    edges: list[dict[str, Any]] = []
    for chain in drawing.split():
        names = chain.split(">")
        ids = list(dict.fromkeys([*ids, *names]))
        for pair in pairwise(names):
            if not any((edge["from"], edge["to"]) == pair for edge in edges):
                condition = (
                    {"data": {"when": when[">".join(pair)]}} if ">".join(pair) in when else {}
                )
                edges.append({"from": pair[0], "to": pair[1], **condition})
    made = [
        {
            "id": name,
            "kind": kinds.get(name, "noop"),
            "data": {"inputs": inputs.get(name, {}), **data.get(name, {})},
        }
        for name in ids
    ]
    for node in made:
        if node["id"] in (namespaces or {}):
            node["namespace"] = (namespaces or {})[node["id"]]
    return {"nodes": made, "edges": edges, **members}


@pytest.fixture
def executor(db: None) -> Executor:
    return Executor(threads=False)


@pytest.fixture
def drain(executor: Executor) -> Callable[[], int]:
    """Run everything that is ready, in this thread."""

    def run_all() -> int:
        total = 0
        while done := executor.drain():
            total += done
        return total

    return run_all


@pytest.fixture
def run_graph(publish: Callable[..., Graph], drain: Callable[[], int]) -> Callable[..., Run]:
    """Publish a drawing, run it to its end in this thread and give the run."""

    def run(drawing: str, options: RunOptions | None = None, **members: Any) -> Run:
        started = start_run(publish(drawing, **members), options)
        drain()
        started.refresh_from_db()
        return started

    return run


@pytest.fixture
def make_key(namespace: Namespace) -> Callable[..., str]:
    def make(scope: str = "run", namespaces: tuple[str, ...] = ("alpha",)) -> str:
        return api_keys.create_key(namespaces, scope)[1]

    return make


def by_node(run: Run) -> dict[str, list[str]]:
    """{identifier: statuses}, for assertions."""
    found: dict[str, list[str]] = {}
    for state in run.states.order_by("path", "retry_count", "id"):
        found.setdefault(state.identifier, []).append(state.status)
    return found


def database_url() -> str:
    """The URL of the test database, for child processes."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    return (
        f"postgresql://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    )


__all__ = ["TEST_DATABASES", "by_node", "database_url", "definition", "nodes"]
