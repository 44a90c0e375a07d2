"""What the Run Manager's list shows: one page of runs, its filters and its place in the whole."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict

from graphs.access import Caller
from runs import listing, statuses
from runs.filters import ManagerFilter
from runs.models import Run

SIZES = (25, 50, 100, 200)
ICONS = {
    statuses.RUN_QUEUED: "…",
    statuses.RUNNING: "▶",
    statuses.PAUSED: "⏸",
    statuses.COMPLETED: "✓",
    statuses.PARTIAL: "◐",
    statuses.FAILED: "✗",
    statuses.RUN_CANCELLED: "⊘",
}
TABS = {
    "All": (),
    "Active": statuses.ACTIVE_RUNS,
    "Failed": (statuses.FAILED, statuses.PARTIAL),
    "Completed": (statuses.COMPLETED,),
    "Cancelled": (statuses.RUN_CANCELLED,),
}
COLUMNS = ("run_id", "name", "status", "progress", "created_at", "username", "workspace", "rerun_count", "error_message", "graph__name", "namespace__name")


@dataclass
class RunPage:
    """A page of the runs that a caller sees, as the query string asks for it. `notices` say what of it was not understood."""

    caller: Caller
    query: QueryDict

    def __post_init__(self) -> None:
        self.notices: list[str] = []
        self.number = self._whole("page", 1, 10**9, 1)
        self.size = self._whole("page_size", 1, 200, 50)

    def _whole(self, name: str, least: int, most: int, usual: int) -> int:
        text = self.query.get(name, "") or str(usual)
        if text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most:
            return int(text)
        self.notices.append(f"{name} is a number from {least} to {most}; {text[:20]!r} was taken as {usual}.")
        return usual

    @cached_property
    def all(self) -> QuerySet[Run]:
        return Run.objects.visible_to(self.caller)

    @cached_property
    def filtered(self) -> QuerySet[Run]:
        asked = ManagerFilter(self.query, queryset=self.all)
        if asked.is_valid():
            return asked.qs
        self.notices += [f"{name}: {' '.join(wrong)} This filter was left out." for name, wrong in asked.errors.items()]
        sound = QueryDict(mutable=True)
        for name in self.query.keys() - asked.errors.keys():
            sound.setlist(name, self.query.getlist(name))
        return ManagerFilter(sound, queryset=self.all).qs

    @cached_property
    def total(self) -> int:
        asked = sorted((name, values) for name, values in self.query.lists() if name not in ("page", "page_size"))
        return listing.total(self.filtered, f"page {self.caller.namespaces} {asked}")

    @cached_property
    def runs(self) -> list[Run]:
        found = listing.run_page(self.filtered, (self.number - 1) * self.size, self.size)
        return list(found.select_related("graph", "namespace").only(*COLUMNS))

    @cached_property
    def tabs(self) -> list[tuple[str, str, int, bool]]:
        """(name, link, how many runs, whether it is the one that is shown), whatever else is filtered."""
        counts = listing.by_status(self.all, f"tabs {self.caller.namespaces}")
        found = []
        for name, words in TABS.items():
            count = sum(number for status, number in counts.items() if not words or status in words)
            found.append((name, self.link(status=",".join(words), page=1), count, self.query.get("status", "") == ",".join(words)))
        return found

    @property
    def active(self) -> bool:
        """Whether a run on this page may still change."""
        return any(run.status in statuses.ACTIVE_RUNS for run in self.runs)

    @property
    def last(self) -> int:
        return max(1, -(-self.total // self.size))

    @property
    def is_filtered(self) -> bool:
        return any(self.query.get(name) for name in ManagerFilter.base_filters)

    def link(self, **changes: Any) -> str:
        """The query string with these values instead."""
        query = self.query.copy()
        for name, value in changes.items():
            query[name] = str(value)
        return f"?{query.urlencode()}"

    @property
    def links(self) -> dict[str, str]:
        """Where the paging leads."""
        found: dict[str, str] = {}
        if self.number > 1:
            found |= {"first": self.link(page=1), "previous": self.link(page=min(self.number - 1, self.last))}
        if self.number < self.last:
            found |= {"next": self.link(page=self.number + 1), "last": self.link(page=self.last)}
        return found
