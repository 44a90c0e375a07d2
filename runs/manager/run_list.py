"""One page of the run list: its runs, headings, tabs, counts and links."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.utils.safestring import SafeString

from graphs.web.page_guard import caller_of
from runs.core import statuses
from runs.manager import columns
from runs.manager.list_query import ListQuery
from runs.models import ColumnChoice, Run
from runs.queries import lists, orderings, search
from runs.queries.lists import Ordering

FAILURES = ",".join(statuses.UNSUCCESSFUL)
TABS: dict[str, dict[str, str]] = {
    "All": {},
    "Active": {"status": ",".join(statuses.ACTIVE_RUNS)},
    "Failed, not recovered": {"status": FAILURES, "recovered": "no"},
    "Failed": {"status": FAILURES},
    "Completed": {"status": statuses.COMPLETED},
    "Cancelled": {"status": statuses.RUN_CANCELLED},
    "Archived": {"archived": "yes"},
}
TAB_FILTERS = ("status", "recovered", "archived")
MAX_COUNT = 10_000  # a count that needs a scan of an index stops here


@dataclass(frozen=True)
class Heading:
    """The heading of a column. `link` sorts by it; `sorted` is the value of `aria-sort`."""

    key: str
    column: columns.Column
    link: str
    sorted: str


@dataclass(frozen=True)
class Tab:
    label: str
    link: str
    count: str
    current: bool


class RunPage(ListQuery):
    """A page of the runs that the caller sees, as the query string asks for it."""

    filter_problems: Mapping[str, str] = {}  # known once the runs are `filtered`

    @cached_property
    def visible(self) -> QuerySet[Run]:
        return Run.objects.visible_to(self.caller)

    @cached_property
    def filtered(self) -> QuerySet[Run]:
        """The runs that match the filters. A filter with a wrong value is ignored with a notice."""
        runs, problems = self.run_filters.apply_valid(self.visible, self.caller)
        self.filter_problems = problems
        self.notices += [
            f"{name}: {problem} This filter was ignored." for name, problem in problems.items()
        ]
        return runs

    @cached_property
    def total(self) -> int:
        return lists.total(self.filtered, self.run_filters.cache_key(self.caller))

    @cached_property
    def runs(self) -> list[Run]:
        first = (self.number - 1) * self.size
        ordered = lists.run_page(self.filtered, first, self.size, self.possible_ordering)
        return self.with_fields(ordered)

    @cached_property
    def possible_ordering(self) -> Ordering:
        """The ordering; the usual one, with a notice, if too many runs match for it."""
        key = self.run_filters.cache_key(self.caller)
        refusal = orderings.refusal_for(self.ordering, self.filtered, key)
        if refusal:
            self.notices.append(refusal)
            self.ordering = orderings.DEFAULT
        return orderings.ORDERINGS[self.ordering]

    def with_fields(self, runs: QuerySet[Run]) -> list[Run]:
        """The runs with the fields that their cells need and that the caller may see."""
        related = columns.related_of(self.columns)
        shown = list(runs.select_related(*related).only(*columns.fields_of(self.columns)))
        for run in shown:
            if not self.caller.can("payloads", run.namespace_id):
                run.error_message = ""  # the list has no room to say that it is hidden
        return shown

    @property
    def rows(self) -> SafeString:
        return columns.rows(self.runs, self.columns, self.caller.may("rerun"), self.here)

    @property
    def swapped_rows(self) -> SafeString:
        """The rows, marked so that htmx puts them in place of those on the page."""
        may_rerun = self.caller.may("rerun")
        return columns.rows(self.runs, self.columns, may_rerun, self.here, swapped=True)

    @property
    def columns_are_chosen(self) -> bool:
        """Whether all columns are shown on every screen, because the user has chosen them."""
        return tuple(self.columns) != columns.USUAL

    @cached_property
    def headings(self) -> list[Heading]:
        return [self._heading(name, columns.COLUMNS[name]) for name in self.columns]

    def _heading(self, name: str, column: columns.Column) -> Heading:
        ascending, descending = name, f"-{name}"
        if self.ordering == descending:
            return Heading(name, column, self.link(ordering=ascending, page=1), "descending")
        direction = "ascending" if self.ordering == ascending else ""
        return Heading(name, column, self.link(ordering=descending, page=1), direction)

    @cached_property
    def tabs(self) -> list[Tab]:
        """The tabs with the number of their runs. They keep the other filters."""
        active = self.visible.filter(archived_at=None)
        counts = lists.by_status(active, f"tabs {self.caller.namespaces}")
        current = {name: self.query.get(name, "") for name in TAB_FILTERS}
        tabs = []
        for label, filters in TABS.items():
            values = {name: filters.get(name, "") for name in TAB_FILTERS}
            link = self.link(**values, page=1)
            tabs.append(Tab(label, link, self._count(filters, counts), current == values))
        return tabs

    def _count(self, filters: dict[str, str], counts: dict[str, int]) -> str:
        """The number of a tab's runs, from `counts` by status where that is enough."""
        if "recovered" in filters or "archived" in filters:
            runs = self.visible.filter(archived_at__isnull="archived" not in filters)
            if "recovered" in filters:
                runs = runs.filter(search.recovered_or_not("no"))
            key = f"tab {sorted(filters.items())} {self.caller.namespaces}"
            number = lists.total_up_to(runs, MAX_COUNT, key)
            return f"{number:,}" if number < MAX_COUNT else f"{MAX_COUNT:,}+"
        if not filters:
            return f"{sum(counts.values()):,}"
        return f"{sum(counts.get(status, 0) for status in filters['status'].split(',')):,}"

    @property
    def live(self) -> str:
        """The runs on the page that may still change, as `pk-revision` joined by dots."""
        active = [run for run in self.runs if run.status in statuses.ACTIVE_RUNS]
        return ".".join(f"{run.pk}-{run.revision}" for run in active)

    @cached_property
    def newest(self) -> int:
        """The row id of the newest run that the caller sees, on the page or not; 0 for none."""
        return self.visible.order_by("-pk").values_list("pk", flat=True).first() or 0

    @cached_property
    def first_seen(self) -> int:
        """The newest run when the page was opened. Newer ones are announced, not inserted."""
        return self.newest

    @property
    def poll_link(self) -> str:
        """The query with which the page asks for the rows that changed (`list_page.live_rows`)."""
        return self.link(
            cols=",".join(self.columns),
            runs=self.live,
            newest=self.newest,
            first=self.first_seen,
        )

    @property
    def export_link(self) -> str:
        """The query with which the runs are exported as the list shows them."""
        return self.link(cols=",".join(self.columns), ordering=self.ordering)

    @property
    def last(self) -> int:
        """The number of the last page."""
        return max(1, -(-self.total // self.size))

    @cached_property
    def archived_matches(self) -> int:
        """How many archived runs match, for a list that shows none."""
        filters = self.run_filters.with_value("archived", "yes")
        runs, problems = filters.apply_valid(self.visible, self.caller)
        if problems:
            return 0
        return runs.filter(archived_at__isnull=False)[:MAX_COUNT].count()

    @property
    def links(self) -> dict[str, str]:
        """The links to the other pages."""
        links: dict[str, str] = {}
        if self.number > 1:
            links["first"] = self.link(page=1)
            links["previous"] = self.link(page=min(self.number - 1, self.last))
        if self.number < self.last:
            links["next"] = self.link(page=self.number + 1)
            links["last"] = self.link(page=self.last)
        return links


def page_of(request: HttpRequest, query: QueryDict) -> RunPage:
    """The page of this query with the columns that the user has chosen."""
    chosen = ColumnChoice.objects.filter(user=request.user.pk)
    usual = chosen.values_list("columns", flat=True).first()
    return RunPage(caller_of(request), query, usual or columns.USUAL)
