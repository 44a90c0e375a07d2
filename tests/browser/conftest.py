"""A real browser on a served instance: Debian's chromium through Playwright. What the console or
the content policy complain of fails the test.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from pytest_django.plugin import DjangoDbBlocker

from runs.models import Run
from tests.settings import TEST_DATABASE
from tests.support import scene, snapshots
from tests.support.clusters import served

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
]
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1280, 900)}
os.environ.setdefault(
    "DJANGO_ALLOW_ASYNC_UNSAFE", "1"
)  # Playwright's loop runs in this thread; the tests' own queries are safe


def chromium() -> str | None:
    return next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        None,
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Pages are the same on both databases: the browser looks once, and each database has its share
    of that.
    """
    mine = [item for item in items if "tests/browser/" in str(item.path)]
    others = [
        item
        for item in mine
        if (item.path.name == "test_looks.py") != (TEST_DATABASE == "postgresql")
    ]
    if others:
        items[:] = [item for item in items if item not in others]
        config.hook.pytest_deselected(items=others)
    if chromium() is None:
        for item in mine:
            item.add_marker(
                pytest.mark.skip(reason="browser (no chromium; install the package chromium)")
            )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="package")
def built(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[tuple[dict[str, Run], Callable[[], None]]]:
    """The world's runs, and what sets the database and the files back to it."""
    with django_db_blocker.unblock():
        empty = snapshots.take()
        runs = scene.build(finished=24)
        rows, files = snapshots.take(), snapshots.FilesSnapshot()
        empty.restore()

    def restore() -> None:
        rows.restore()
        files.restore()

    yield runs, restore
    files.close()


@pytest.fixture
def world(
    transactional_db: None, built: tuple[dict[str, Run], Callable[[], None]]
) -> dict[str, Run]:
    """The world as it was built: each test may change it."""
    runs, restore = built
    restore()
    return {name: Run.objects.get(pk=run.pk) for name, run in runs.items()}


@pytest.fixture(scope="package")
def site(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """One web server for all tests of the browser.

    Ids are never used again when the world is set back, so what it caches by id stays right.
    """
    with django_db_blocker.unblock(), served() as address:
        yield address


@pytest.fixture
def open_as(browser: Browser, site: str, world: dict[str, Run]) -> Iterator[Callable[..., Page]]:
    """open_as("ann", size="phone", scheme="dark", scripts=False): a page that is logged in;
    complaints are collected.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def make(
        username: str = "ann", size: str = "desktop", scheme: str = "light", scripts: bool = True
    ) -> Page:
        width, height = SIZES[size]
        options: dict[str, Any] = {
            "viewport": {"width": width, "height": height},
            "color_scheme": scheme,
            "java_script_enabled": scripts,
        }
        context = browser.new_context(base_url=site, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type == "error" and not _expected(message.text)
                else None
            ),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/admin/login/")
        page.fill("#id_username", username)
        page.fill("#id_password", username)
        page.click("[type=submit]")
        return page

    yield make
    for context in contexts:
        context.close()
    assert not complaints, complaints


def _expected(text: str) -> bool:
    """The browser notes answers such as 410 and 422 as errors; tests ask for them."""
    return "Failed to load resource" in text
