"""The columns that the list can show, and its rows.

Rows are drawn here and not by a template: a page has up to 200 of them with ten cells each, and a template takes several times as long for that.
Every value from a run is escaped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from django.urls import get_script_prefix, reverse
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from graphs.web import formats
from runs.manager import badges
from runs.models import Run

LONGEST_ERROR = 120


@dataclass(frozen=True)
class Column:
    """`cell` draws it from the run's `fields`; `sort` is the ordering that its heading asks for; low ones hide on narrow screens."""

    label: str
    cell: Callable[[Run], str]
    fields: Sequence[str]
    sort: str = ""
    low: bool = False


def _id(run: Run) -> str:
    whole = escape(run.run_id)
    short = whole if len(run.run_id) <= 13 else f"{escape(run.run_id[:12])}…"
    return f'<code title="{whole}">{short}</code> <button type="button" class="rm-copy" data-copy="{whole}" aria-label="Copy the id {whole}">copy</button>'


def _name(run: Run) -> str:
    first = run.error_message.split("\n", 1)[0]
    cut = first if len(first) <= LONGEST_ERROR else f"{first[: LONGEST_ERROR - 1]}…"
    error = f'<span class="rm-error">{escape(cut)}</span>' if first else ""
    return f'<a href="{page_url(run)}"><bdi>{escape(str(run))}</bdi></a>{error}'


def _labels(run: Run) -> str:
    return (
        " ".join(
            f'<span class="rm-label">{escape(key)}={escape(value)}</span>'
            for key, value in run.labels.items()
        )
        or "–"
    )


def _graph(run: Run) -> str:
    return (
        escape(f"{run.graph.name}@{run.version.number if run.version else '–'}")
        if run.graph
        else "–"
    )


def _text(name: str) -> Callable[[Run], str]:
    def cell(run: Run) -> str:
        value: Any = getattr(run, name)
        return f"<bdi>{escape(value)}</bdi>" if value else "–"

    return cell


COLUMNS: dict[str, Column] = {
    "id": Column("ID", _id, ["run_id"]),
    "name": Column("Name", _name, ["run_id", "name", "error_message"]),
    "status": Column("Status", lambda run: badges.run_badge(run.status), ["status"], sort="status"),
    "progress": Column("Progress", lambda run: badges.progress(run), ["progress"]),
    "time": Column("Time", lambda run: formats.moment(run.created_at), ["created_at"], sort="time"),
    "duration": Column(
        "Duration",
        lambda run: formats.length(formats.took(run)),
        ["started_at", "finished_at"],
        low=True,
    ),
    "username": Column("Username", _text("username"), ["username"]),
    "workspace": Column("Workspace", _text("workspace"), ["workspace"]),
    "graph": Column("Graph", _graph, ["graph__name", "version__number"], low=True),
    "namespace": Column(
        "Namespace", lambda run: escape(run.namespace.name), ["namespace__name"], low=True
    ),
    "node": Column("Current node", _text("current_node"), ["current_node"], low=True),
    "reruns": Column(
        "Reruns",
        lambda run: f"↻ {run.rerun_count}" if run.rerun_count else "–",
        ["rerun_count"],
        low=True,
    ),
    "trigger": Column("Trigger", _text("trigger"), ["trigger"], low=True),
    "labels": Column("Labels", _labels, ["labels"], low=True),
    "finished": Column(
        "Finished", lambda run: formats.moment(run.finished_at), ["finished_at"], low=True
    ),
    "session": Column("Session", _text("session_id"), ["session_id"], low=True),
    "dataset": Column(
        "Dataset",
        lambda run: escape(run.dataset.name) if run.dataset else "–",
        ["dataset__name"],
        low=True,
    ),
}
USUAL = ("id", "name", "status", "progress", "time", "duration", "username", "workspace", "graph")
ALWAYS = ("pk", "run_id", "name", "status", "revision", "rerun_count")
_HEADS = {
    name: f'<{"th scope=row" if name == "name" else "td"} data-label="{column.label}" class="rm-{name}{" rm-low" if column.low else ""}">'
    for name, column in COLUMNS.items()
}


def fields_of(names: Sequence[str]) -> list[str]:
    """The columns of the table that these columns of the page need."""
    return list(
        dict.fromkeys([*ALWAYS, *(field for name in names for field in COLUMNS[name].fields)])
    )


def related_of(names: Sequence[str]) -> list[str]:
    return list(
        dict.fromkeys(field.partition("__")[0] for field in fields_of(names) if "__" in field)
    )


@lru_cache(maxsize=8)
def _list_url(script: str) -> str:
    """Where the Run Manager lies; asked for thousands of times, while it changes with nothing but where the project is mounted."""
    return reverse("run_manager")


def page_url(run: Run) -> str:
    return f"{_list_url(get_script_prefix())}run/{run.pk}/"


def rows(
    runs: Sequence[Run], names: Sequence[str], rerun: bool, back: str, swapped: bool = False
) -> SafeString:
    """The table's rows; `rerun` adds that link, `back` is the list that it returns to, `swapped` marks rows that replace those on a page."""
    swap, query = ' hx-swap-oob="true"' if swapped else "", quote(back, safe="")
    return mark_safe("\n".join(_row(run, names, query if rerun else None, swap) for run in runs))  # noqa: S308 -- all that comes from a run is escaped


def _row(run: Run, names: Sequence[str], back: str | None, swap: str) -> str:
    name, url = escape(str(run)), page_url(run)
    cells = "".join(
        f"{_HEADS[key]}{COLUMNS[key].cell(run)}</{'th' if key == 'name' else 'td'}>"
        for key in names
    )
    again = f' <span title="times rerun">↻{run.rerun_count}</span>' if run.rerun_count else ""
    address = f"{_list_url(get_script_prefix())}rerun/{run.pk}/"
    link = (
        f'<a href="{address}?back={back}" aria-label="Rerun {name}">Rerun{again}</a>'
        if back is not None
        else ""
    )
    return (
        f'<tr id="run-{run.pk}" data-href="{url}"{swap}>'
        f'<td class="rm-check"><input type="checkbox" name="run" value="{run.pk}" aria-label="Select {name}"></td>{cells}<td class="rm-rerun">{link}</td></tr>'
    )
