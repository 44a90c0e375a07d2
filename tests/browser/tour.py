"""`python -m tests.browser.tour [FOLDER]` makes the pictures of docs/tour.md.

They show a small world in a fresh database.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

VIEWPORTS = {
    "phone": (390, 844),
    "desktop": (1280, 860),
    "dark": (1280, 860),
    "wide": (1680, 900),
}
SHOTS = {
    "dashboard": ("/admin/", "desktop"),
    "list": ("/admin/run-manager/?page_size=10", "desktop"),
    "search": (
        "/admin/run-manager/?search=graph:orders -status:completed"
        "&cols=id,name,status,progress,time,labels",
        "desktop",
    ),
    "run": ("/admin/run-manager/run/{failed}/", "desktop"),
    "timeline": ("/admin/run-manager/run/{failed}/timeline/", "desktop"),
    "logs": ("/admin/run-manager/run/{failed}/logs/?level=error", "desktop"),
    "waiting": ("/admin/run-manager/run/{waiting}/", "desktop"),
    "rerun": ("/admin/run-manager/rerun/{failed}/?from=failed", "desktop"),
    "lineage": ("/admin/run-manager/run/{again}/lineage/", "desktop"),
    "compare": ("/admin/run-manager/compare/?a={failed}&b={completed}", "desktop"),
    "flow": ("/admin/graphs/graph/{flow}/flow/?node=by_airline", "wide"),
    "flow_list": ("/admin/graphs/graph/{flow}/flow/?view=list&node=late", "wide"),
    "flow_run": ("/admin/graphs/graph/{flow}/flow/run/", "desktop"),
    "dataset": ("/admin/flow/datasets/{dataset}/", "desktop"),
    "phone": ("/admin/run-manager/?page_size=10", "phone"),
    "dark": ("/admin/run-manager/run/{failed}/", "dark"),
}


def take_pictures(folder: Path) -> None:
    import django

    django.setup()
    from django.core.management import call_command
    from playwright.sync_api import sync_playwright

    from graphs.auth.callers import SYSTEM
    from graphs.models import Namespace
    from graphs.services import examples
    from tests.browser.conftest import ARGUMENTS, chromium
    from tests.support import scene
    from tests.support.clusters import served

    call_command("migrate", verbosity=0)
    runs = {name: run.pk for name, run in scene.build(finished=24).items()}
    namespace = Namespace.objects.get(name="shop")
    runs |= {
        "flow": examples.put("flight-delays", namespace, SYSTEM).pk,
        "dataset": examples.load_dataset(namespace).pk,
    }
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        for name, (path, kind) in SHOTS.items():
            width, height = VIEWPORTS[kind]
            context = browser.new_context(
                base_url=address,
                viewport={"width": width, "height": height},
                color_scheme="dark" if kind == "dark" else "light",
                reduced_motion="reduce",
            )
            page = context.new_page()
            page.goto("/admin/login/")
            page.fill("#id_username", "ann")
            page.fill("#id_password", "ann")
            page.click("[type=submit]")
            page.goto(path.format(**runs))
            page.wait_for_load_state("networkidle")
            page.screenshot(path=str(folder / f"{name}.png"))
            context.close()
        browser.close()


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/tour").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if "TOUR" in os.environ:
        take_pictures(folder)
        return
    with tempfile.TemporaryDirectory(prefix="statemanager-tour-") as var:
        environment = {
            **os.environ,
            "TOUR": "1",
            "VAR_DIR": var,
            "LOG_LEVEL": "ERROR",
            "DJANGO_SETTINGS_MODULE": "tests.child_settings",
            "DJANGO_ALLOW_ASYNC_UNSAFE": "1",
        }
        environment.pop("DATABASE_URL", None)
        subprocess.run(
            [sys.executable, "-m", "tests.browser.tour", str(folder)], env=environment, check=True
        )
    print(f"{len(SHOTS)} pictures in {folder}")


if __name__ == "__main__":
    main()
