"""The buttons at the top of a run's page, and why some of them are disabled."""

from dataclasses import dataclass

from django.urls import reverse

from graphs.auth.callers import RIGHT_LABELS, Caller
from runs.actions.delete import DELETE_RIGHT
from runs.core import statuses
from runs.external import queue
from runs.models import Run

ENGINE_VERBS = ("resume", "pause", "retry")
# What is shown outside of the menu if it is possible, the most wanted first.
WANTED = (
    "Resume", "Rerun failed states", "Cancel", "Pause", "Back to the queue", "Rerun",
    "Retry in place",
)  # fmt: skip


@dataclass(frozen=True)
class Tool:
    """Something that can be done with a run: a form if `post`, else a link.

    `reason` says why it can't be done now; "" if it can.
    """

    label: str
    url: str
    post: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Tools:
    """The actions on a run: what is most likely wanted, what is shown beside it, and the menu.

    There is no primary action while the page asks a question, whose answer is the primary one.
    """

    primary: Tool | None
    shown: list[Tool]
    menu: list[Tool]


def tools_of(run: Run, caller: Caller) -> Tools:
    """Every action on the run. Those that are not available are in the menu, with a reason."""
    tools = _all_tools(run, caller)
    available = {tool.label: tool for tool in tools if not tool.reason}
    wanted = [available[label] for label in WANTED if label in available]
    primary = wanted[0] if wanted and not run.waiting_count else None
    shown = [tool for tool in wanted if tool is not primary]
    menu = [tool for tool in tools if tool is not primary and tool not in shown]
    menu.sort(key=lambda tool: bool(tool.reason))
    return Tools(primary, shown, menu)


def _all_tools(run: Run, caller: Caller) -> list[Tool]:
    rerun = reverse("run_manager_rerun", args=[run.pk])
    compare = f"{reverse('run_manager_compare')}?a={run.parent_id or ''}&b={run.pk}"
    can_rerun = _missing_right(run, caller, "rerun")
    return [
        Tool("Rerun", rerun, reason=can_rerun),
        Tool("Rerun failed states", f"{rerun}?from=failed", reason=can_rerun or _no_failures(run)),
        _verb(run, caller, "cancel", "Cancel"),
        _verb(run, caller, "resume", "Resume")
        if run.paused
        else _verb(run, caller, "pause", "Pause"),
        _verb(run, caller, "retry", "Retry in place"),
        *_queue(run, caller),
        Tool("Compare", compare),
        Tool(
            "Export",
            reverse("run_bundle", args=[run.pk]),
            reason=_missing_right(run, caller, "export"),
        ),
        Tool(
            "Save as template",
            reverse("run_template_new", args=[run.pk]),
            reason=_missing_right(run, caller, "start") or _no_graph(run),
        ),
        _archive(run, caller),
        Tool(
            "Delete",
            reverse("run_manager_bulk", args=["delete"]),
            post=True,
            reason=_missing_right(run, caller, DELETE_RIGHT),
        ),
    ]


def _missing_right(run: Run, caller: Caller, right: str) -> str:
    if caller.can(right, run.namespace_id):
        return ""
    return f"You may not {RIGHT_LABELS[right]} in this namespace."


def _no_failures(run: Run) -> str:
    return "" if run.errored_count or run.cancelled_count else "No state failed."


def _no_graph(run: Run) -> str:
    return "" if run.graph_id else "The run has no graph."


def _verb(run: Run, caller: Caller, name: str, label: str) -> Tool:
    reason = _missing_right(run, caller, "cancel")
    if not reason and name in ENGINE_VERBS and run.version_id is None:
        reason = "An outside program drives this run."
    if not reason and name not in statuses.RUN_ACTIONS[run.status]:
        reason = f"The run is {run.status}."
    return Tool(label, reverse("run_manager_action", args=[run.pk, name]), True, reason)


def _queue(run: Run, caller: Caller) -> list[Tool]:
    """A button that takes an external run from the program that holds it."""
    if run.version_id is not None or run.ended or not queue.holder_of(run):
        return []
    url = reverse("run_manager_action", args=[run.pk, "release"])
    return [Tool("Back to the queue", url, True, _missing_right(run, caller, "cancel"))]


def _archive(run: Run, caller: Caller) -> Tool:
    reason = _missing_right(run, caller, "change")
    if not reason and not run.ended:
        reason = f"The run is {run.status}; cancel it first."
    name, label = ("unarchive", "Unarchive") if run.archived_at else ("archive", "Archive")
    return Tool(label, reverse("run_manager_action", args=[run.pk, name]), True, reason)
