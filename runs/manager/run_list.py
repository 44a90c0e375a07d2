"""What the Run Manager's list shows: one page of runs, its filters and its place in the whole. The query string is its state."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.safestring import SafeString

from graphs.auth.callers import Caller
from runs.core import statuses
from runs.manager import columns
from runs.models import Run
from runs.queries import lists, search
from runs.queries.filters import FilterValues, RunFilters
from runs.queries.lists import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE

RANGES = {
    "15m": "last 15 minutes",
    "1h": "last hour",
    "24h": "last 24 hours",
    "7d": "last 7 days",
    "30d": "last 30 days",
    "90d": "last 90 days",
}
ORDERINGS = {
    "-time": ("-created_at", "-id"),
    "time": ("created_at", "id"),
    "status": ("status", "-created_at", "-id"),
    "-status": ("-status", "created_at", "id"),
}
OWN = ("page", "page_size", "ordering", "cols", "view")  # what is no filter
TABS: dict[str, dict[str, str]] = {
    "All": {},
    "Active": {"status": ",".join(statuses.ACTIVE_RUNS)},
    "Failed, not recovered": {"status": f"{statuses.FAILED},{statuses.PARTIAL}", "recovered": "no"},
    "Failed": {"status": f"{statuses.FAILED},{statuses.PARTIAL}"},
    "Completed": {"status": statuses.COMPLETED},
    "Cancelled": {"status": statuses.RUN_CANCELLED},
    "Archived": {"archived": "yes"},
}
COUNTED = 10_000


@dataclass
class RunPage:
    """A page of the runs that a caller sees, as the query string asks for it. `notices` say what of it was not understood."""

    caller: Caller
    query: QueryDict
    usual: Sequence[str] = columns.USUAL

    def __post_init__(self) -> None:
        self.notices: list[str] = []
        self.number = self._whole("page", 1, 10**9, 1)
        self.size = self._whole("page_size", 1, MAX_PAGE_SIZE, DEFAULT_PAGE_SIZE)
        self.ordering = self._among("ordering", ORDERINGS, "-time")
        self.columns = self._columns()
        self.notices += search.parse(self.query.get("search", "")).notices
        self.run_filters = RunFilters.of_query(self.query, other_names=OWN)
        for name in self.run_filters.unknown:
            self.notices.append(f"There is no filter {name[:40]!r}; it was left out.")

    def _whole(self, name: str, least: int, most: int, usual: int) -> int:
        text = self.query.get(name, "") or str(usual)
        if text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most:
            return int(text)
        self.notices.append(
            f"{name} is a number from {least} to {most}; {text[:20]!r} was taken as {usual}."
        )
        return usual

    def _among(self, name: str, known: Any, usual: str) -> str:
        text = self.query.get(name, "") or usual
        if text in known:
            return text
        self.notices.append(
            f"{name} is one of {', '.join(known)}; {text[:20]!r} was taken as {usual}."
        )
        return usual

    def _columns(self) -> list[str]:
        asked = [name for name in self.query.get("cols", "").split(",") if name] or list(self.usual)
        if unknown := [name for name in asked if name not in columns.COLUMNS]:
            self.notices.append(
                f"There is no column {', '.join(unknown)[:80]!r}; the columns are {', '.join(columns.COLUMNS)}."
            )
        chosen = [name for name in dict.fromkeys(asked) if name in columns.COLUMNS]
        return chosen if "name" in chosen else ["name", *chosen]

    @cached_property
    def all(self) -> QuerySet[Run]:
        return Run.objects.visible_to(self.caller).filter(archived_at=None)

    @cached_property
    def filtered(self) -> QuerySet[Run]:
        visible = Run.objects.visible_to(self.caller)
        runs, problems = self.run_filters.apply_valid(visible)
        self.notices += [
            f"{name}: {problem} This filter was left out." for name, problem in problems.items()
        ]
        return runs

    @property
    def filters(self) -> FilterValues:
        """The filters that are set, as bulk operations store them."""
        return self.run_filters.values

    @cached_property
    def total(self) -> int:
        return lists.total(self.filtered, self.run_filters.cache_key(self.caller))

    @cached_property
    def runs(self) -> list[Run]:
        return self.drawn(
            lists.run_page(
                self.filtered, (self.number - 1) * self.size, self.size, ORDERINGS[self.ordering]
            )
        )

    def drawn(self, runs: QuerySet[Run]) -> list[Run]:
        """The runs with what their cells need, and no more."""
        return list(
            runs.select_related(*columns.related_of(self.columns)).only(
                *columns.fields_of(self.columns)
            )
        )

    @property
    def rows(self) -> SafeString:
        return columns.rows(self.runs, self.columns, self.caller.may("rerun"), self.here)

    @property
    def swapped_rows(self) -> SafeString:
        """The rows as replacements of those that a page has."""
        return columns.rows(
            self.runs, self.columns, self.caller.may("rerun"), self.here, swapped=True
        )

    @cached_property
    def headings(self) -> list[tuple[str, columns.Column, str, str]]:
        """(key, column, link that sorts by it, `aria-sort`)."""
        found = []
        for name in self.columns:
            column = columns.COLUMNS[name]
            up = self.ordering == column.sort
            down = self.ordering == f"-{column.sort}"
            link = (
                self.link(ordering=column.sort if down else f"-{column.sort}", page=1)
                if column.sort
                else ""
            )
            found.append(
                (
                    name,
                    column,
                    link,
                    "ascending" if up else "descending" if down and column.sort else "",
                )
            )
        return found

    @cached_property
    def tabs(self) -> list[tuple[str, str, str, bool]]:
        """(name, link, how many runs, whether it is the one that is shown), whatever else is filtered."""
        counts = lists.by_status(self.all, f"tabs {self.caller.namespaces}")
        shown = {name: self.query.get(name, "") for name in ("status", "recovered", "archived")}
        found = []
        for name, asked in TABS.items():
            wanted = {key: asked.get(key, "") for key in shown}
            found.append(
                (name, self.link(**wanted, page=1), self._count(asked, counts), shown == wanted)
            )
        return found

    def _count(self, asked: dict[str, str], counts: dict[str, int]) -> str:
        """Exact up to a bound where an index must be walked."""
        if "recovered" in asked or "archived" in asked:
            archived = Run.objects.visible_to(self.caller).filter(archived_at__isnull=False)
            runs = (
                archived if "archived" in asked else self.all.filter(search.recovered_or_not("no"))
            )
            number = lists.total_up_to(
                runs, COUNTED, f"tab {sorted(asked.items())} {self.caller.namespaces}"
            )
            return f"{number:,}" if number < COUNTED else f"{COUNTED:,}+"
        words = asked.get("status", "").split(",")
        return f"{sum(number for status, number in counts.items() if words == [''] or status in words):,}"

    @property
    def live(self) -> str:
        """The runs on this page that may still change, with their revisions, and the newest run; "" when there is none."""
        moving = [
            f"{run.pk}-{run.revision}" for run in self.runs if run.status in statuses.ACTIVE_RUNS
        ]
        return ".".join(moving)

    @cached_property
    def newest(self) -> int:
        """The last run there is, whether it is shown or not."""
        return (
            Run.objects.visible_to(self.caller).order_by("-pk").values_list("pk", flat=True).first()
            or 0
        )

    @property
    def archived_link(self) -> str:
        return self.link(archived="yes", page=1)

    @property
    def last(self) -> int:
        return max(1, -(-self.total // self.size))

    @property
    def is_filtered(self) -> bool:
        return bool(self.filters)

    @cached_property
    def chips(self) -> list[tuple[str, str, str]]:
        """What is filtered: (name, value, link without it)."""
        names = {"created_after": "from", "created_before": "before", "username": "user"}
        return [
            (names.get(name, name), ", ".join(values), self.link(**{name: "", "page": 1}))
            for name, values in sorted(self.filters.items())
        ]

    @cached_property
    def archived_matches(self) -> int:
        """How many archived runs match what finds nothing among the others."""
        archived = self.run_filters.with_value("archived", "yes")
        runs, problems = archived.apply_valid(Run.objects.visible_to(self.caller))
        return 0 if problems else runs[:COUNTED].count()

    def link(self, **changes: Any) -> str:
        """The query string with these values instead; empty ones are left out."""
        query = self.query.copy()
        for name, value in changes.items():
            if value in ("", None):
                query.pop(name, None)
            else:
                query[name] = str(value)
        return f"?{query.urlencode()}"

    @property
    def here(self) -> str:
        return self.link()

    @property
    def links(self) -> dict[str, str]:
        """Where the paging leads."""
        found: dict[str, str] = {}
        if self.number > 1:
            found |= {
                "first": self.link(page=1),
                "previous": self.link(page=min(self.number - 1, self.last)),
            }
        if self.number < self.last:
            found |= {"next": self.link(page=self.number + 1), "last": self.link(page=self.last)}
        return found
