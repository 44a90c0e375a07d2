"""Fixtures that most tests use, the options of the test suite, and its report.

The last line of a test session names every group of tests that could not run.
"""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.signals import setting_changed
from django.test import TransactionTestCase
from django.utils.functional import empty
from pytest_django.plugin import DjangoDbBlocker

from graphs import models
from graphs.auth import api_keys
from graphs.models import Graph, Namespace
from graphs.nodes import declared
from graphs.nodes.base import registry
from graphs.services.publish import publish_graph
from graphs.web import ttl_cache
from runs.engine import tracebacks
from runs.engine.executor import Executor
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import Run
from runs.queries import diagram
from runs.worker_api import claims
from statemanager.file_storage import file_storage
from tests import nodes  # noqa: F401  the nodes that only tests use
from tests.settings import DATABASE_IS_CHOSEN, PROCESS, SKIPPED_DATABASES, TEST_DATABASE
from tests.support import migrated_database, scheduling, snapshots, storage_io
from tests.support.databases import runs_on
from tests.support.definitions import definition
from tests.support.scheduling import EachDatabase


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-kills", type=int, default=20, help="random kills per database in the chaos tests"
    )
    parser.addoption("--chaos-busy-only", action="store_true", help="kill only busy workers")
    parser.addoption(
        "--chaos-rounds",
        type=int,
        default=0,
        help="how often each action is performed at each failpoint (0: one kill at each)",
    )
    parser.addoption(
        "--outage-minutes",
        type=float,
        default=0,
        help="minutes for which PostgreSQL crashes every 5 to 40 s (0: it crashes twice)",
    )
    parser.addoption(
        "--fuzz-examples",
        type=int,
        default=3,
        help="examples of each API operation in the fuzz test",
    )
    parser.addoption(
        "--model-steps", type=int, default=0, help="examples of the model test (0: a few)"
    )


LONG_FORMS = {"chaos_kills": 20, "chaos_rounds": 0, "outage_minutes": 0, "model_steps": 0}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """The long forms of tests take as long as they are told to.

    Without processes of pytest-xdist, nobody has started a PostgreSQL server.
    """
    if any(config.getoption(name) != short for name, short in LONG_FORMS.items()):
        config.option.timeout = 0
    storage_io.watch()
    is_controller = bool(getattr(config.option, "numprocesses", None))
    has_server = PROCESS != "main" or os.environ.get("DATABASE_URL")
    if TEST_DATABASE == "postgresql" and not is_controller and not has_server:
        raise pytest.UsageError(
            "STATEMANAGER_TEST_DATABASE=postgresql needs a process of its own: add -n 1."
        )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> EachDatabase | None:
    """With `--dist each`, each database runs its tests, in as many processes as it has."""
    return EachDatabase(config, log) if config.getvalue("dist") == "each" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = [item for item in items if runs_on(item, TEST_DATABASE, DATABASE_IS_CHOSEN)]
    if len(here) < len(items):
        elsewhere = set(items).difference(here)
        config.hook.pytest_deselected(items=[*elsewhere])
        items[:] = here
    scheduling.order(items)
    for item in items:
        if _is_fast(item):
            item.add_marker(pytest.mark.fast)
        if SKIPPED_DATABASES:
            item.add_marker(pytest.mark.skip(reason=SKIPPED_DATABASES[0]))


SLOW_MARKERS = ("chaos", "cluster", "races")
SLOW = (
    "browser",
    "chaos",
    "journeys",
    "races",
    "sdk",
    "test_fuzz.py",
    # Modules whose tests take a second or more, and most of those of pages and APIs.
    "graphs/api",
    "graphs/definition/test_edits.py",
    "graphs/editor",
    "graphs/nodes/test_nodes.py",
    "runs/api",
    "runs/engine/test_costs.py",
    "runs/engine/test_model.py",
    "runs/external",
    "runs/manager",
    "runs/queries/test_list_costs.py",
    "test_admin.py",
    "test_page_sizes.py",
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m fast` does not even import the modules without fast tests."""
    if config.getoption("markexpr") != "fast":
        return None
    return _path_in_tests(collection_path).startswith(SLOW) or None


def _path_in_tests(path: Path) -> str:
    return os.path.relpath(path, Path(__file__).parent)


def _is_fast(item: pytest.Item) -> bool:
    """Whether a test needs no process, browser, thread or commit, and its module is not slow."""
    is_marked_slow = any(item.get_closest_marker(name) for name in SLOW_MARKERS)
    if is_marked_slow or _path_in_tests(item.path).startswith(SLOW):
        return False
    database = item.get_closest_marker("django_db")
    return not (database and database.kwargs.get("transaction"))


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


def pytest_collection_finish() -> None:
    """Look for garbage less often: a tenth of the time of most tests went into that."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    if skipped := config.stash.get(SKIPPED, []):
        print(f"skipped groups: {'; '.join(skipped)}")


class _Conf:
    """Sets members of STATE_MANAGER for one test."""

    def __init__(self, settings: Any) -> None:
        self.__dict__["settings"] = settings

    def __getattr__(self, name: str) -> Any:
        return self.settings.STATE_MANAGER[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self.settings.STATE_MANAGER = {**self.settings.STATE_MANAGER, name: value}


@pytest.fixture
def conf(settings: Any) -> _Conf:
    return _Conf(settings)


def _choose_storage_again(*, setting: str, **_: object) -> None:
    if setting in ("STORAGES", "STATE_MANAGER"):
        file_storage._wrapped = empty


setting_changed.connect(_choose_storage_again)


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_modify_db_settings: None) -> bool:
    """Begin with the migrated database of an earlier test session, if there is one."""
    return migrated_database.restore()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """After a test that commits, restore a snapshot of the migrated database."""
    with django_db_blocker.unblock():
        registry.store()  # those of the tests too: the snapshot contains them
        migrated = snapshots.take()
        migrated_database.store()
    TransactionTestCase._fixture_teardown = lambda self: migrated.restore()


@pytest.fixture(autouse=True)
def _fresh_caches() -> None:
    """Clear all caches: after a flush, ids start again and would find the rows of other tests."""
    for module in (api_keys, declared, ttl_cache, claims, models, diagram, tracebacks):
        module.forget()
    cache.clear()


@pytest.fixture
def own_storage(settings: Any, tmp_path: Path) -> Path:
    """An empty storage of files for this test. Other tests leave files behind in the usual one."""
    folder = tmp_path / "files"
    folder.mkdir()
    default = {**settings.STORAGES["default"], "OPTIONS": {"location": str(folder)}}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    return folder


@pytest.fixture
def database() -> str:
    return TEST_DATABASE


@pytest.fixture
def namespace(db: None) -> Namespace:
    return Namespace.objects.get_or_create(name="alpha")[0]


@pytest.fixture
def publish(namespace: Namespace) -> Callable[..., Graph]:
    """Publish a graph drawn as text: publish("a>b>d a>c>d", kinds={"a": "fan_out"}, …)."""

    def make(drawing: str, name: str = "graph", **options: Any) -> Graph:
        return publish_graph(
            options.pop("namespace", namespace), name, definition(drawing, **options)
        )

    return make


@pytest.fixture
def executor(db: None) -> Executor:
    return Executor(threads=False)


@pytest.fixture
def drain(executor: Executor) -> Callable[[], int]:
    """Execute all ready states in this thread; return how many."""

    def run_all() -> int:
        total = 0
        while done := executor.drain():
            total += done
        return total

    return run_all


@pytest.fixture
def run_graph(publish: Callable[..., Graph], drain: Callable[[], int]) -> Callable[..., Run]:
    """Publish a drawing, run it to its end in this thread, and return the run."""

    def run_drawing(drawing: str, options: RunOptions | None = None, **members: Any) -> Run:
        run = start_run(publish(drawing, **members), options)
        drain()
        run.refresh_from_db()
        return run

    return run_drawing


@pytest.fixture
def make_key(namespace: Namespace) -> Callable[..., str]:
    """Create an API key with a scope, by default in the namespace alpha."""

    def make(scope: str = "run", namespaces: tuple[str, ...] = ("alpha",), name: str = "") -> str:
        return api_keys.create_key(namespaces, scope, name=name)[1]

    return make
