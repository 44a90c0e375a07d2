"""The query string of the run list: its page, ordering, columns and filters, and links to others.

The query string is the whole state of the list, so every view of it can be linked to.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.http import QueryDict

from graphs.auth.callers import Caller
from runs.manager import columns
from runs.queries import search
from runs.queries.filters import OTHER_PARAMETERS, FilterValues, RunFilters
from runs.queries.lists import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from runs.queries.orderings import DEFAULT, ORDERINGS

RANGES = {
    "15m": "last 15 minutes",
    "1h": "last hour",
    "24h": "last 24 hours",
    "7d": "last 7 days",
    "30d": "last 30 days",
    "90d": "last 90 days",
}
MAX_PAGE = 10**9
MORE_FILTERS = ("namespace", "trigger", "label", "created_after", "created_before")
CHIP_LABELS = {"created_after": "from", "created_before": "before", "username": "user"}


@dataclass
class ListQuery:
    """The query string as a caller sent it.

    `usual` are the columns that are shown if the query names none. Nothing is ignored silently:
    `notices` says which values were not understood and what was used instead.
    """

    caller: Caller
    query: QueryDict
    usual: Sequence[str] = columns.USUAL

    def __post_init__(self) -> None:
        self.notices: list[str] = []
        self.number = self._number("page", MAX_PAGE, 1)
        self.size = self._number("page_size", MAX_PAGE_SIZE, DEFAULT_PAGE_SIZE)
        self.ordering = self._choice("ordering", ORDERINGS, DEFAULT)
        self.columns = self._columns()
        self.notices += search.parse(self.query.get("search", "")).notices
        self.run_filters = RunFilters.of_query(self.query, other_names=OTHER_PARAMETERS)
        self.notices += [
            f"There is no filter {name[:40]!r}, so it was ignored."
            for name in self.run_filters.unknown
        ]

    def _number(self, name: str, largest: int, default: int) -> int:
        text = self.query.get(name, "") or str(default)
        is_number = text.isascii() and text.isdigit() and len(text) < 12
        if is_number and 1 <= int(text) <= largest:
            return int(text)
        self.notices.append(
            f"{name} is a number from 1 to {largest}. {default} is used instead of {text[:20]!r}."
        )
        return default

    def _choice(self, name: str, choices: Collection[str], default: str) -> str:
        text = self.query.get(name, "") or default
        if text in choices:
            return text
        self.notices.append(
            f"{name} is one of {', '.join(choices)}. {default} is used instead of {text[:20]!r}."
        )
        return default

    def _columns(self) -> list[str]:
        """The columns to show. The name is always among them, because it links to the run."""
        names = [name for name in self.query.get("cols", "").split(",") if name]
        names = names or list(self.usual)
        unknown = [name for name in names if name not in columns.COLUMNS]
        if unknown:
            self.notices.append(
                f"There is no column {', '.join(unknown)[:80]!r}."
                f" The columns are {', '.join(columns.COLUMNS)}."
            )
        known = [name for name in dict.fromkeys(names) if name in columns.COLUMNS]
        return known if "name" in known else ["name", *known]

    @property
    def filters(self) -> FilterValues:
        """The filters and their values, as bulk operations store them."""
        return self.run_filters.values

    @property
    def is_filtered(self) -> bool:
        return bool(self.filters)

    @property
    def more_filters(self) -> bool:
        """Whether a filter is set that the page shows only on demand."""
        return any(self.query.get(name) for name in MORE_FILTERS)

    @property
    def chips(self) -> list[tuple[str, str, str]]:
        """(label, value, link without it) of each filter."""
        return [
            (CHIP_LABELS.get(name, name), ", ".join(values), self._link_without(name))
            for name, values in sorted(self.filters.items())
        ]

    def _link_without(self, name: str) -> str:
        changes: dict[str, str | int] = {name: "", "page": 1}
        return self.link(**changes)

    def link(self, **changes: str | int) -> str:
        """The query string with these values; a value that is "" is removed."""
        query = self.query.copy()
        for name, value in changes.items():
            if value == "":
                query.pop(name, None)
            else:
                query[name] = str(value)
        return f"?{query.urlencode()}"

    @property
    def here(self) -> str:
        return self.link()

    @property
    def archived_link(self) -> str:
        return self.link(archived="yes", page=1)
