"""The columns that the list can show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from runs.manager import badges
from runs.models import Run

Cell = SafeString | str


@dataclass(frozen=True)
class Column:
    """`cell` draws it from the run's `fields`; `sort` is the ordering that its heading asks for; low ones hide on narrow screens."""

    label: str
    cell: Callable[[Run], Cell]
    fields: Sequence[str]
    sort: str = ""
    low: bool = False


def _id(run: Run) -> Cell:
    return format_html(
        '<code title="{0}">{1}</code> <button type="button" class="rm-copy" data-copy="{0}" aria-label="Copy the id {0}">copy</button>',
        run.run_id,
        run.run_id if len(run.run_id) <= 13 else f"{run.run_id[:12]}…",
    )


def _name(run: Run) -> Cell:
    first = run.error_message.split("\n", 1)[0]
    error = format_html('<span class="rm-error">{}</span>', first if len(first) <= 120 else f"{first[:119]}…") if first else ""
    return format_html('<a href="{}"><bdi>{}</bdi></a>{}', reverse("run_page", args=[run.pk]), run, error)


def _labels(run: Run) -> Cell:
    return format_html_join(" ", '<span class="rm-label">{}={}</span>', run.labels.items()) if run.labels else "–"


def _graph(run: Run) -> Cell:
    return f"{run.graph.name}@{run.version.number if run.version else '–'}" if run.graph else "–"


def _text(name: str) -> Callable[[Run], Cell]:
    def cell(run: Run) -> Cell:
        value: Any = getattr(run, name)
        return format_html("<bdi>{}</bdi>", value) if value else "–"

    return cell


COLUMNS: dict[str, Column] = {
    "id": Column("ID", _id, ["run_id"]),
    "name": Column("Name", _name, ["run_id", "name", "error_message"]),
    "status": Column("Status", lambda run: badges.run_badge(run.status), ["status"], sort="status"),
    "progress": Column("Progress", badges.progress, ["progress"]),
    "time": Column("Time", lambda run: badges.moment(run.created_at), ["created_at"], sort="time"),
    "duration": Column("Duration", lambda run: badges.length(badges.took(run)), ["started_at", "finished_at"], low=True),
    "username": Column("Username", _text("username"), ["username"]),
    "workspace": Column("Workspace", _text("workspace"), ["workspace"]),
    "graph": Column("Graph", _graph, ["graph__name", "version__number"], low=True),
    "namespace": Column("Namespace", lambda run: run.namespace.name, ["namespace__name"], low=True),
    "node": Column("Current node", _text("current_node"), ["current_node"], low=True),
    "reruns": Column("Reruns", lambda run: f"↻ {run.rerun_count}" if run.rerun_count else "–", ["rerun_count"], low=True),
    "trigger": Column("Trigger", _text("trigger"), ["trigger"], low=True),
    "labels": Column("Labels", _labels, ["labels"], low=True),
    "finished": Column("Finished", lambda run: badges.moment(run.finished_at), ["finished_at"], low=True),
    "session": Column("Session", _text("session_id"), ["session_id"], low=True),
    "dataset": Column("Dataset", lambda run: run.dataset.name if run.dataset else "–", ["dataset__name"], low=True),
}
USUAL = ("id", "name", "status", "progress", "time", "duration", "username", "workspace", "graph")
ALWAYS = ("pk", "run_id", "name", "status", "revision", "rerun_count", "namespace__name")


def fields_of(names: Sequence[str]) -> list[str]:
    """The columns of the table that these columns of the page need."""
    return list(dict.fromkeys([*ALWAYS, *(field for name in names for field in COLUMNS[name].fields)]))


def related_of(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(field.partition("__")[0] for field in fields_of(names) if "__" in field))
