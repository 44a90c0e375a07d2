"""The order of packages. A package imports only from itself and from packages further down."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = [
    "statemanager",
    "runs.admin",
    "runs.management",
    "runs.templatetags",
    "runs.api",
    "runs.manager",
    "runs.apps",
    "runs.nodes",
    "runs.cluster",
    "runs.health",
    "runs.langgraph",
    "runs.actions",
    "runs.queries",
    "runs.external",
    "runs.worker_api",
    "runs.engine",
    "runs.models",
    "runs.core",
    "graphs.admin",
    "graphs.management",
    "graphs.templatetags",
    "graphs.api",
    "graphs.editor",
    "graphs.web",
    "graphs.apps",
    "graphs.nodes",
    "graphs.services",
    "graphs.auth",
    "graphs.models",
    "graphs.rendering",
    "graphs.definition",
    "statemanager.file_storage",
    "statemanager.conf",
    "statemanager.__version__",
]
OURS = ("statemanager", "runs", "graphs")
MODULES = [
    path
    for app in OURS
    for path in sorted((ROOT / app).rglob("*.py"))
    if "migrations" not in path.parts and path != ROOT / app / "__init__.py"
]


def package_of(module: str) -> str | None:
    """The package in ORDER that a module belongs to."""
    found = [name for name in ORDER if f"{module}.".startswith(f"{name}.")]
    return max(found, key=len, default=None)


def imports(path: Path) -> Iterator[str]:
    """The names that a file imports at run time, without those for the type checker only."""
    tree = ast.parse(path.read_text())
    for branch in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
        if ast.unparse(branch.test) == "TYPE_CHECKING":
            branch.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    """The dotted name of the module in a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_its_own_package_and_those_below(path):
    module = name_of(path)
    own = package_of(module)
    assert own, f"{module} is in no package of ORDER"
    for imported in imports(path):
        if imported.partition(".")[0] in OURS:
            package = package_of(imported)
            assert package, f"{module} imports {imported}, which is in no package of ORDER"
            assert ORDER.index(package) >= ORDER.index(own), f"{module} imports {imported}"


def imports_django_q(path: Path) -> bool:
    return any(f"{name}.".startswith("django_q.") for name in imports(path))


def test_only_hints_and_the_cluster_import_django_q():
    assert [name_of(path) for path in MODULES if imports_django_q(path)] == [
        "runs.cluster.broker",
        "runs.cluster.q_cluster",
        "runs.engine.wakeup",
    ]


def test_a_cluster_imports_no_pages_and_no_api():
    """They would take a third of the time that it needs to start."""
    program = (
        "import sys, django; django.setup(); import runs.management.commands.run_cluster;"
        "print(*sys.modules)"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, stdout=subprocess.PIPE
    )
    imported = set(printed.stdout.decode().split())
    assert "runs.engine.wakeup" in imported
    pages = {"statemanager.urls", "statemanager.admin_site", "runs.admin", "graphs.admin"}
    assert not imported & {*pages, "rest_framework.views", "requests", "cel"}
