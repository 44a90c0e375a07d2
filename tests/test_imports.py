"""Imports go one way: statemanager → runs → graphs, and inside runs from doors over verbs to nouns and words."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"graphs": {"runs", "statemanager", "tests"}, "runs": {"statemanager", "tests"}, "statemanager": {"tests"}}
LAYERS = [
    {"statuses", "paths", "sql", "tally", "redacting", "previewing", "keeping", "run_state", "connecting", "failpoints"},
    {"querysets", "models", "trace_models", "checkpoint_models", "operation_models", "template_models", "work", "ledger", "auditing"},
    {"advancing", "joining", "queueing", "context", "lanes", "claiming", "storing", "finishing", "reporting", "executing"},
    {
        "starting",
        "stopping",
        "answering",
        "rescuing",
        "deleting",
        "reopening",
        "creating",
        "rerunning",
        "reusing",
        "scheduling",
        "marking",
        "trees",
        "explaining",
        "bundling",
        "snapshots",
        "driving",
        "threads",
        "recounting",
    },
    {"searching", "filters", "listing", "exporting"},
    {"operations"},
    {"carrying", "comparing", "verifying", "overview", "retaining", "inspecting"},
    {"tasks", "gallery", "supervising", "picture", "checkpoints", "decoding", "doctoring", "backups"},
    {"nodes", "langgraph_example", "api", "manager", "flow", "admin", "management"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> set[tuple[str, ...]]:
    """What a module imports, in parts; names imported from a package count as its modules."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {(*node.module.split("."), alias.name) for alias in node.names}
    return found


def test_apps_import_one_way():
    for app, forbidden in FORBIDDEN.items():
        for path in (ROOT / app).rglob("*.py"):
            wrong = {name for name in imports(path) if name[0] in forbidden}
            assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_rooms_of_runs_import_downwards():
    for path in (ROOT / "runs").rglob("*.py"):
        room = path.relative_to(ROOT / "runs").parts[0].removesuffix(".py")
        for name in imports(path):
            if room in LEVEL and name[0] == "runs" and len(name) > 1 and name[1] in LEVEL:
                assert LEVEL[name[1]] <= LEVEL[room], f"{path.relative_to(ROOT)} imports {'.'.join(name)}"


def test_only_queueing_imports_django_q():
    for app in FORBIDDEN:
        for path in (ROOT / app).rglob("*.py"):
            uses = any(name[0] == "django_q" for name in imports(path))
            assert not uses or path == ROOT / "runs" / "queueing.py", path.relative_to(ROOT)
