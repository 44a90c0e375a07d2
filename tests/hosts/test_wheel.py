"""What the wheel is made of."""

import re
import tomllib
import zipfile

from tests.hosts import environments

ROOT = environments.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]+(?:\[\w+\])?")


def names(requirements):
    found = {NAME.match(line)[0].lower() for line in requirements if NAME.match(line)}
    return {name.partition("[")[0] for name in found}


def test_the_wheel_and_our_own_site_need_the_same_packages():
    ours = names((ROOT / "requirements.in").read_text().splitlines())
    extra = PROJECT["optional-dependencies"]
    assert names(PROJECT["dependencies"]) | names(extra["site"]) == ours
    with_langgraph = (ROOT / "requirements-langgraph.in").read_text().splitlines()
    assert names(extra["langgraph"]) == names(with_langgraph)


def test_it_has_the_pages_of_the_app_and_leaves_those_of_the_project(tmp_path):
    with zipfile.ZipFile(environments.wheel(tmp_path)) as wheel:
        files = set(wheel.namelist())
    assert {
        "statemanager/templates/statemanager/base.html",
        "statemanager/templates/run_manager/list.html",
        "statemanager/templates/flow/flow.html",
        "runs/static/run_manager/manager.css",
        "graphs/static/flow/flow.js",
        "graphs/bundled/fan-out.json",
        "runs/migrations/0001_initial.py",
        "statemanager/py.typed",
        "runs/py.typed",
        "graphs/py.typed",
    } <= files
    templates = {path.relative_to(ROOT) for path in (ROOT / "templates").rglob("*.html")}
    packed = {f"statemanager/{path}" for path in templates} & files
    of_the_project = {str(path) for path in templates} - {
        path.removeprefix("statemanager/") for path in packed
    }
    assert of_the_project == {
        "templates/403.html",
        "templates/403_csrf.html",
        "templates/404.html",
        "templates/500.html",
        "templates/_error.html",
        "templates/admin/base_site.html",
        "templates/admin/index.html",
        "templates/admin/locked_out.html",
        "templates/admin/own_access.html",
        "templates/admin/second_factor.html",
        "templates/admin/sign_in.html",
    }
    top = {name.partition("/")[0] for name in files}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "statemanager",
        "runs",
        "graphs",
    }
