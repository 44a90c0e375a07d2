"""The columns of the run list, and its rows.

The rows are rendered here, not by a template: a page has up to 200 rows of ten cells, for which a
template takes several times as long. Every value that comes from a run is escaped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from django.urls import get_script_prefix, reverse
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from graphs.web import formats
from runs.manager import badges
from runs.models import Run

MAX_ERROR = 120  # characters of an error that the list shows
MAX_ID = 13  # characters of a run id that the list shows
MAX_UNCUT = 10  # characters of a text that every screen has room for
MAX_LABELS = 3  # of a run in the list
EMPTY = "–"


@dataclass(frozen=True)
class Column:
    """A column of the list.

    `cell` renders the cell from the run's `fields`. A `low` column is hidden on narrow screens,
    unless the user has chosen the columns.
    """

    label: str
    cell: Callable[[Run], str]
    fields: Sequence[str]
    low: bool = False


def _id(run: Run) -> str:
    run_id = escape(run.run_id)
    short = run_id if len(run.run_id) <= MAX_ID else f"{escape(run.run_id[: MAX_ID - 1])}…"
    return (
        f'<code title="{run_id}">{short}</code> '
        f'<button type="button" class="rm-copy" data-copy="{run_id}"'
        f' aria-label="Copy the id {run_id}">copy</button>'
    )


def _name(run: Run) -> str:
    link = f'<a href="{page_url(run)}"><bdi>{escape(str(run))}</bdi></a>'
    error = run.error_message.split("\n", 1)[0]
    if not error:
        return link
    if len(error) > MAX_ERROR:
        error = f"{error[: MAX_ERROR - 1]}…"
    return f'{link} <span class="rm-error" title="{escape(error)}">{escape(error)}</span>'


def _labels(run: Run) -> str:
    return badges.labels(run.labels, MAX_LABELS) or EMPTY


def _graph(run: Run) -> str:
    if run.graph is None:
        return EMPTY
    number = run.version.number if run.version else EMPTY
    return escape(f"{run.graph.name}@{number}")


def _reruns(run: Run) -> str:
    return f"↻ {run.rerun_count}" if run.rerun_count else EMPTY


def _duration(run: Run) -> str:
    return formats.length(formats.took(run))


def _dataset(run: Run) -> str:
    return escape(run.dataset.name) if run.dataset else EMPTY


def _text(field: str) -> Callable[[Run], str]:
    """A cell that shows a text field of the run."""

    def cell(run: Run) -> str:
        value: str = getattr(run, field)
        text = escape(value)
        title = f' title="{text}"' if len(value) > MAX_UNCUT else ""
        return f"<bdi{title}>{text}</bdi>" if value else EMPTY

    return cell


def _moment(field: str) -> Callable[[Run], str]:
    """A cell that shows a time of the run."""
    return lambda run: formats.moment(getattr(run, field))


def _text_column(label: str, field: str, low: bool = True) -> Column:
    return Column(label, _text(field), [field], low=low)


COLUMNS: dict[str, Column] = {
    "id": Column("ID", _id, ["run_id"]),
    "name": Column("Name", _name, ["run_id", "name", "error_message"]),
    "status": Column("Status", lambda run: badges.run_badge(run.status), ["status"]),
    "progress": Column("Progress", badges.progress, ["progress"], low=True),
    "time": Column("Time", _moment("created_at"), ["created_at"]),
    "duration": Column("Duration", _duration, ["started_at", "finished_at"], low=True),
    "username": _text_column("Username", "username", low=False),
    "workspace": _text_column("Workspace", "workspace", low=False),
    "graph": Column("Graph", _graph, ["graph__name", "version__number"], low=True),
    "namespace": Column(
        "Namespace", lambda run: escape(run.namespace.name), ["namespace__name"], low=True
    ),
    "node": _text_column("Current node", "current_node"),
    "reruns": Column("Reruns", _reruns, ["rerun_count"], low=True),
    "trigger": _text_column("Trigger", "trigger"),
    "labels": Column("Labels", _labels, ["labels"], low=True),
    "finished": Column("Finished", _moment("finished_at"), ["finished_at"], low=True),
    "session": _text_column("Session", "session_id"),
    "dataset": Column("Dataset", _dataset, ["dataset__name"], low=True),
}
USUAL = ("id", "name", "status", "progress", "time", "duration", "username", "workspace", "graph")
ALWAYS = ("pk", "namespace", "run_id", "name", "status", "revision", "rerun_count")


def _opening_tag(name: str, column: Column) -> str:
    tag = "th scope=row" if name == "name" else "td"
    low = " rm-low" if column.low else ""
    return f'<{tag} data-label="{column.label}" class="rm-{name}{low}">'


_OPENING_TAGS = {name: _opening_tag(name, column) for name, column in COLUMNS.items()}


def fields_of(names: Sequence[str]) -> list[str]:
    """The model fields that these columns need."""
    fields = [field for name in names for field in COLUMNS[name].fields]
    return list(dict.fromkeys([*ALWAYS, *fields]))


def related_of(names: Sequence[str]) -> list[str]:
    """The relations that these columns need."""
    related = [field.partition("__")[0] for field in fields_of(names) if "__" in field]
    return list(dict.fromkeys(related))


@lru_cache(maxsize=8)
def _list_url(script_prefix: str) -> str:
    """The URL of the list. A page needs it hundreds of times, so it is cached per mount point."""
    return reverse("run_manager")


def page_url(run: Run) -> str:
    """The URL of the run's page."""
    return f"{_list_url(get_script_prefix())}run/{run.pk}/"


def rows(
    runs: Sequence[Run], names: Sequence[str], rerun: bool, back: str, swapped: bool = False
) -> SafeString:
    """The rows of the table, with the named columns.

    `rerun` adds the link to the rerun page, from which `back` leads to the list. `swapped` marks
    rows that htmx puts in place of those on the page.
    """
    swap = ' hx-swap-oob="true"' if swapped else ""
    query = f"?back={quote(back, safe='')}" if rerun else None
    table_rows = [_row(run, names, query, swap) for run in runs]
    return mark_safe("\n".join(table_rows))  # noqa: S308 -- the cells escape what comes from a run


def _row(run: Run, names: Sequence[str], rerun_query: str | None, swap: str) -> str:
    name = escape(str(run))
    cells = "".join(_cell(run, column) for column in names)
    link = _rerun_link(run, name, rerun_query) if rerun_query is not None else ""
    return (
        f'<tr id="run-{run.pk}" data-href="{page_url(run)}"{swap}>'
        f'<td class="rm-check"><input type="checkbox" name="run" value="{run.pk}"'
        f' aria-label="Select {name}"></td>'
        f'{cells}<td class="rm-rerun">{link}</td></tr>'
    )


def _cell(run: Run, name: str) -> str:
    tag = "th" if name == "name" else "td"
    return f"{_OPENING_TAGS[name]}{COLUMNS[name].cell(run)}</{tag}>"


def _rerun_link(run: Run, name: str, query: str) -> str:
    url = f"{_list_url(get_script_prefix())}rerun/{run.pk}/{query}"
    count = f' <span title="times rerun">↻{run.rerun_count}</span>' if run.rerun_count else ""
    return f'<a href="{url}" aria-label="Rerun {name}">Rerun{count}</a>'
