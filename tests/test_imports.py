"""The order of packages. A package imports only from itself and from packages further down."""

import ast
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
    return next((name for name in ORDER if f"{module}.".startswith(f"{name}.")), None)


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, but not what only the type checker sees."""
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
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_from_its_own_package_or_further_down(path):
    own = package_of(name_of(path))
    assert own, f"{name_of(path)} is in no package of ORDER"
    for imported in imports(path):
        if imported.partition(".")[0] in OURS:
            package = package_of(imported)
            assert package, f"{name_of(path)} imports {imported}, which is in no package"
            assert ORDER.index(package) >= ORDER.index(own), f"{name_of(path)} imports {imported}"


def test_only_the_wakeup_module_imports_django_q():
    users = [
        name_of(path)
        for path in MODULES
        if any(f"{name}.".startswith("django_q.") for name in imports(path))
    ]
    assert users == ["runs.engine.wakeup"]
