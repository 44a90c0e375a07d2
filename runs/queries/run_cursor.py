"""Runs by cursor: a page begins behind the last run of the page before it.

Unlike a page number, a cursor neither repeats nor skips runs when others come or go, and the
thousandth page costs what the first one does.
"""

from collections.abc import Sequence

from django.core import signing
from django.db.models import Field, Q, QuerySet

from graphs.definition import errors
from runs.models import Run
from runs.queries import orderings

# The orderings that have cursors: those that an index answers and that no run lacks the values of.
ORDERINGS: dict[str, Sequence[str]] = {
    name: [part for part in ordering if isinstance(part, str)]
    for name, ordering in orderings.ORDERINGS.items()
    if name.removeprefix("-") in orderings.INDEXED
    and all(isinstance(part, str) for part in ordering)
}
DEFAULT_ORDERING = orderings.DEFAULT
_SALT = "runs.cursor"


def cursor_of(run: Run, ordering: str) -> str:
    """The cursor of the page that begins behind this run.

    It is signed, so nobody else's values ever reach the database.
    """
    values = [_text(run, name.lstrip("-")) for name in ORDERINGS[ordering]]
    return signing.dumps([ordering, *values], salt=_SALT)


def _text(run: Run, field: str) -> str:
    column = Run._meta.get_field(field)
    assert isinstance(column, Field)
    return column.value_to_string(run)


def page_after(runs: QuerySet[Run], ordering: str, cursor: str, length: int) -> QuerySet[Run]:
    """The runs of a page in this order; an empty cursor is that of the first page.

    Raises Malformed if the text is not a cursor, or one of another order.
    """
    if cursor:
        runs = runs.filter(_behind(ORDERINGS[ordering], _values(ordering, cursor)))
    return runs.order_by(*ORDERINGS[ordering])[:length]


def _values(ordering: str, cursor: str) -> list[str]:
    try:
        of_ordering, *values = signing.loads(cursor, salt=_SALT)
    except signing.BadSignature:
        of_ordering, values = None, []
    if of_ordering != ordering:
        raise errors.Malformed("`after` must be the `next` of an earlier page in the same order.")
    return values


def _behind(fields: Sequence[str], values: Sequence[str]) -> Q:
    """Rows that come later: larger in a field, and equal in all fields before it.

    The bound of the first field alone follows from this. It is what an index can be entered by.
    """
    later, equal = Q(), Q()
    for field, value in zip(fields, values, strict=True):
        name = field.lstrip("-")
        later |= equal & Q(**{f"{name}__{'lt' if field != name else 'gt'}": value})
        equal &= Q(**{name: value})
    first = fields[0].lstrip("-")
    return later & Q(**{f"{first}__{'lte' if fields[0] != first else 'gte'}": values[0]})
