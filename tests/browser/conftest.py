"""A real browser on a served instance: Debian's chromium, driven by Playwright.

A test fails if the console shows an error or the content security policy is violated. Each test
runs on one database only, because the pages are the same on both.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright
from pytest_django.plugin import DjangoDbBlocker

from runs.models import Run
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
# Playwright's event loop runs in this thread. The queries of the tests are safe nevertheless.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")


def chromium() -> str | None:
    """The path of the browser, None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if chromium() is not None:
        return
    for item in items:
        if "tests/browser/" in str(item.path):
            item.add_marker(
                pytest.mark.skip(reason="browser (no chromium; install the package chromium)")
            )


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser of all browser tests.

    It ends with them: Playwright's driver ends when its input does, which a process that a later
    test forks may keep open for ever.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def built(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[tuple[dict[str, Run], Callable[[], None]]]:
    """The runs of the world, and a function that restores its rows and files."""
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
    """The runs of a freshly restored world, which the test may change."""
    runs, restore = built
    restore()
    return {name: Run.objects.get(pk=run.pk) for name, run in runs.items()}


@pytest.fixture(scope="package")
def site(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The address of one web server for all browser tests.

    Restoring the world never reuses an id, so what the server caches by id stays right.
    """
    with django_db_blocker.unblock(), served() as address:
        yield address


@pytest.fixture
def open_as(browser: Browser, site: str, world: dict[str, Run]) -> Iterator[Callable[..., Page]]:
    """Open a page as a logged-in user: open_as("ann", size="phone", scheme="dark", scripts=False).

    In the end, errors of the page or the console fail the test.
    """
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def add_console_error(message: ConsoleMessage) -> None:
        if message.type == "error" and not _is_expected(message.text):
            errors.append(message.text)

    def open_page(
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
        page.on("console", add_console_error)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/admin/login/")
        page.fill("#id_username", username)
        page.fill("#id_password", username)
        page.click("[type=submit]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors, errors


def _is_expected(text: str) -> bool:
    """The browser reports responses such as 410 and 422 as errors. Tests request them.

    htmx reports a poll that ends because the page is left. What fails otherwise has reports of its
    own, such as htmx:sendError.
    """
    is_left = text.startswith(("htmx:sendAbort", "htmx:afterRequest"))
    return is_left or "Failed to load resource" in text
