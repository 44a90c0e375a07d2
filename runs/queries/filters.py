"""The filters of runs and states: one definition for pages, API, commands and bulk operations."""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import django_filters
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django_filters.fields import IsoDateTimeField
from django_filters.filters import BaseInFilter, CharFilter, IsoDateTimeFilter

from graphs.auth.callers import Caller
from graphs.definition import errors
from runs.core import statuses
from runs.models import Run, State
from runs.queries import searched_inputs
from runs.queries.labels import labelled
from runs.queries.search import (
    MAX_LENGTH,
    MAX_STARS,
    graph_named,
    of_session,
    parse,
    recovered_or_not,
    since,
)

Model = TypeVar("Model", bound=models.Model)
MOMENTS = {"created_after", "created_before"}
FilterValues = dict[str, list[str]]  # the values of each filter, as a query string has them


class WordsFilter(BaseInFilter, CharFilter):
    """One or several of these words in any case, separated by commas.

    `words` has the values of the column that each word means.
    """

    def __init__(self, *args: Any, words: Mapping[str, Collection[str]], **options: Any) -> None:
        self.words = {
            **{word.lower(): meaning for word, meaning in words.items()},
            **words,  # where case matters, the word as it is written comes first
        }

        def check(value: str | Iterable[str]) -> None:
            for word in value.split(",") if isinstance(value, str) else value:
                if self.meaning(word) is None:
                    choices = ", ".join(sorted(words))
                    raise ValidationError(f"{word.strip()!r:.80} is none of {choices}.")

        help_text = f"one or several, separated by commas, in any case, of: {', '.join(words)}"
        options["lookup_expr"] = "in"
        super().__init__(*args, help_text=help_text, validators=[check], **options)

    def meaning(self, word: str) -> Collection[str] | None:
        """The values that a word means; None if it is unknown."""
        word = word.strip()
        return self.words.get(word, self.words.get(word.lower()))

    def filter(self, queryset: QuerySet[Model], value: list[str] | None) -> QuerySet[Model]:
        meanings = (self.meaning(word) or () for word in value or ())
        values = dict.fromkeys(itertools.chain.from_iterable(meanings))
        return super().filter(queryset, list(values))


def _themselves(words: Iterable[str]) -> dict[str, tuple[str]]:
    """Words that mean themselves."""
    return {word: (word,) for word in words}


class ExactFilter(CharFilter):
    """A text with its blanks: they can be part of a name."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, strip=False, **options)


class PatternFilter(ExactFilter):
    """A part of the value, or a pattern for the whole value in which `*` matches any text.

    Both match in any case.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, validators=[_check_stars], lookup_expr="like", **options)

    def filter(self, queryset: QuerySet[Model], value: str) -> QuerySet[Model]:
        return super().filter(queryset, value if not value or "*" in value else f"*{value}*")


def _check_stars(text: str) -> None:
    if text.count("*") > MAX_STARS:
        raise ValidationError(f"A pattern can have up to {MAX_STARS} stars.")


class MomentFilter(IsoDateTimeFilter):
    """A time with its zone. Refuses times that are out of range in UTC."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, validators=[_check_range], help_text="ISO 8601", **options)


def _check_range(moment: datetime) -> None:
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ValidationError("This time is out of range.") from None


def _with_zone(text: str) -> str:
    """The same time with its zone, by default that of the user: stored filters are read later.

    A text that is no time is left for the filter to refuse.
    """
    try:
        moment = IsoDateTimeField().clean(text)
    except (ValidationError, OverflowError):
        return text
    return str(moment.isoformat())


class TextFilter(ExactFilter):
    """A text that a function of `runs.queries.search` turns into a condition."""

    def __init__(self, *args: Any, read: Callable[[str], Q], **options: Any) -> None:
        def check(text: str) -> None:
            try:
                read(text)
            except (ValueError, OverflowError) as error:
                raise ValidationError(f"{error}.") from None

        self.read = read
        super().__init__(*args, validators=[check], **options)

    def filter(self, queryset: QuerySet[Model], value: str) -> QuerySet[Model]:
        return queryset.filter(self.read(value)) if value else queryset


class StateFilter(django_filters.FilterSet):
    """States by status, node and time of creation. `OfRunFilter` filters their runs."""

    status = WordsFilter(words=_themselves(statuses.STATE_STATUSES), field_name="status")
    identifier = ExactFilter(help_text="the node's identifier in its graph")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = State
        fields: list[str] = []


class OfRunFilter(django_filters.FilterSet):
    """Runs by graph and run id."""

    graph = ExactFilter(field_name="graph__name", help_text="the name of the graph")
    run_id = PatternFilter(
        field_name="run_id", help_text="a part of the run id, or a pattern with *"
    )

    class Meta:
        model = Run
        fields: list[str] = []


class RunFilter(OfRunFilter):
    """Runs by graph, run id, time of creation, and status: our statuses, or those of `/v0`."""

    status = WordsFilter(words={**statuses.RUN_WORDS, **statuses.V0_RUN_WORDS}, field_name="status")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")


class ManagerFilter(django_filters.FilterSet):
    """The filters of the Run Manager's list.

    Archived runs are left out unless `archived` asks for them: `yes` for archived runs alone,
    `yes,no` for all runs.
    """

    search = CharFilter(
        method="with_text",
        max_length=MAX_LENGTH,
        help_text="a part of the run id or the name, in any case; "
        "tokens such as status:failed, -graph:health or input:customer.id=42",
    )
    username = ExactFilter(help_text="who started it")
    workspace = ExactFilter(help_text="its workspace")
    status = WordsFilter(words=statuses.RUN_WORDS, field_name="status")
    namespace = ExactFilter(field_name="namespace__name", help_text="its namespace")
    graph = TextFilter(read=graph_named, help_text="the name of its graph, or namespace/name")
    session = TextFilter(read=of_session, help_text="its session")
    trigger = WordsFilter(words=_themselves(Run.Trigger.values), field_name="trigger")
    label = TextFilter(read=labelled, help_text="a label as key=value, or its key")
    since = TextFilter(
        read=lambda text: Q(created_at__gte=since(text)),
        help_text="not older than this, such as 15m, 24h or 7d",
    )
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")
    recovered = TextFilter(
        read=recovered_or_not,
        help_text="yes or no: failed runs with or without a later rerun that completed",
    )
    archived = WordsFilter(words=_themselves(("yes", "no")), method="with_archived")

    class Meta:
        model = Run
        fields: list[str] = []

    def __init__(self, data: Mapping[str, Any], queryset: QuerySet[Run]) -> None:
        # FilterSet copies every filter of its class for each request, which takes longer than
        # reading a page of runs. So only the filters that the data names are copied.
        self.__dict__["base_filters"] = {
            name: base for name, base in type(self).base_filters.items() if name in data
        }
        super().__init__(data, queryset=queryset)

    def with_text(self, queryset: QuerySet[Run], name: str, text: str) -> QuerySet[Run]:
        return queryset.filter(parse(text).condition)

    def with_archived(self, queryset: QuerySet[Run], name: str, words: list[str]) -> QuerySet[Run]:
        return queryset  # `qs` applies it, because it also has an effect when it is absent

    @property
    def qs(self) -> QuerySet[Run]:
        runs: QuerySet[Run] = super().qs
        wanted = {word.lower() for word in self.form.cleaned_data.get("archived") or ["no"]}
        if wanted == {"yes", "no"}:
            return runs
        return runs.filter(archived_at__isnull="no" in wanted)


class InvalidFilters(errors.Malformed):
    """Filters that don't exist or whose values can't be read.

    The API's answer lists each problem with its place. The text of the error is a sentence for
    each of them, for pages and commands.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__(
            [
                {"loc": ["query", name], "msg": message, "type": "value_error"}
                for name, message in problems.items()
            ]
        )
        self.problems = problems

    def __str__(self) -> str:
        return " ".join(f"{name[:100]}: {message}" for name, message in self.problems.items())


OTHER_PARAMETERS = ("page", "page_size", "ordering", "cols", "view")  # of the page of the list
REPEATED = "It was given more than once. Separate several values by commas."


@dataclass(frozen=True)
class RunFilters:
    """The filters of the run list, as pages, API, commands and bulk operations receive them.

    `values` has the filters that are set, in the form in which bulk operations store them;
    `unknown` has the names that are not filters.
    """

    values: FilterValues
    unknown: tuple[str, ...] = ()

    @classmethod
    def of_query(cls, query: QueryDict, other_names: Collection[str] = ()) -> Self:
        """Read a query string. `other_names` are its parameters that are not meant as filters."""
        return cls.of_mapping(
            {name: values for name, values in query.lists() if name not in other_names}
        )

    @classmethod
    def of_mapping(cls, mapping: Mapping[str, object]) -> Self:
        """Read a JSON object or a stored query: each value is a text or a list of texts."""
        lists = {
            name: [str(value) for value in values] if isinstance(values, list) else [str(values)]
            for name, values in mapping.items()
        }
        known = ManagerFilter.base_filters.keys()
        values = {name: texts for name, texts in lists.items() if name in known and any(texts)}
        for name in MOMENTS & values.keys():
            values[name] = [_with_zone(text) for text in values[name]]
        return cls(values, tuple(sorted(lists.keys() - known)))

    def check_names(self) -> None:
        """Raises InvalidFilters if there are unknown names: without them, more runs would match."""
        if self.unknown:
            raise InvalidFilters(dict.fromkeys(self.unknown, "There is no such filter."))

    def apply(self, runs: QuerySet[Run], caller: Caller) -> QuerySet[Run]:
        """The runs that match. Raises InvalidFilters if a filter is unknown or can't be read."""
        self.check_names()
        matching, problems = self.apply_valid(runs, caller)
        if problems:
            raise InvalidFilters(problems)
        return matching

    def apply_valid(
        self, runs: QuerySet[Run], caller: Caller
    ) -> tuple[QuerySet[Run], dict[str, str]]:
        """The runs that match the valid filters, and the problem of each invalid one.

        A search for errors or inputs finds only runs of which the caller may see them: otherwise
        the matches of one guess after the other would spell them.
        """
        searches = [parse(text) for text in self.values.get("search", ())]
        filterset = ManagerFilter(_query(self.values), queryset=runs)
        problems = {name: " ".join(texts) for name, texts in filterset.errors.items()}
        problems |= {name: REPEATED for name, texts in self.values.items() if len(set(texts)) > 1}
        paths = [path for search in searches for path in search.inputs]
        if paths and "search" not in problems:
            refusal = searched_inputs.refusal(paths, caller)
            problems |= {"search": refusal} if refusal else {}
        if problems:
            valid = {name: texts for name, texts in self.values.items() if name not in problems}
            filterset = ManagerFilter(_query(valid), queryset=runs)
        matching = filterset.qs
        allowed = caller.where("payloads")
        is_restricted = "search" not in problems and any(search.payloads for search in searches)
        if allowed is not None and is_restricted:
            matching = matching.filter(allowed)
        return matching, problems

    def with_value(self, name: str, value: str) -> Self:
        """The same filters with this value for one of them."""
        return type(self)({**self.values, name: [value]}, self.unknown)

    def frozen(self) -> FilterValues:
        """The values with `since` replaced by a time, so that they mean the same runs later.

        Raises ValueError if `since` can't be read, so apply the filters first.
        """
        values = dict(self.values)
        if relative := values.pop("since", None):
            moments = [since(relative[-1])]
            filterset = ManagerFilter(_query(self.values), queryset=Run.objects.none())
            if filterset.is_valid() and filterset.form.cleaned_data.get("created_after"):
                moments.append(filterset.form.cleaned_data["created_after"])
            values["created_after"] = [max(moments).isoformat()]
        return values

    def cache_key(self, caller: Caller) -> str:
        """A key for what is computed from the runs that match and that the caller sees."""
        seen = (caller.namespaces, str(caller.where("payloads")))
        return f"runs {seen} {sorted(self.values.items())}"


def _query(values: FilterValues) -> QueryDict:
    query = QueryDict(mutable=True)
    for name, texts in values.items():
        query.setlist(name, texts)
    return query
