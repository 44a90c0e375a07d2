"""Querysets with named filters. `visible_to` is the one place that decides who sees which rows."""

from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser

    from graphs.auth.callers import Caller

# The querysets are of Any, because managers made of generic ones lose the types of their rows.


class InNamespaces(models.QuerySet[Any]):
    """Rows that have a `namespace`."""

    def visible_to(self, caller: "Caller") -> Self:
        """The rows of the namespaces that the caller may see."""
        return self if caller.namespaces is None else self.filter(namespace__in=caller.namespaces)


class ApiKeyQuerySet(models.QuerySet[Any]):
    def usable(self) -> Self:
        """The keys that are neither revoked nor expired, by the database's clock.

        The account that made a key must be active.
        """
        made_by_somebody = Q(created_by=None) | Q(created_by__is_active=True)
        lasts = Q(expires_at=None) | Q(expires_at__gt=Now())
        return self.filter(made_by_somebody, lasts, revoked_at=None)


class MembershipQuerySet(models.QuerySet[Any]):
    def of(self, user: "AbstractUser") -> Self:
        """The roles of a user and of the user's groups."""
        return self.filter(Q(user=user) | Q(group__in=user.groups.all()))


class GraphQuerySet(InNamespaces):
    def with_version(self) -> Self:
        """With their namespaces and current versions."""
        return self.select_related("namespace", "current")

    def lock(self, *pks: int, against_starts: bool = False, skip_locked: bool = False) -> Self:
        """The graphs with these keys that still exist, locked until the transaction ends.

        With `skip_locked`, without those either that something else has locked.
        Only the row of the graph is locked, not its namespace's, by which graphs are ordered. Runs
        can still start from a locked graph, because their foreign key locks its key only, unless
        it is locked `against_starts`.
        """
        locked = self.select_for_update(
            of=("self",), no_key=not against_starts, skip_locked=skip_locked
        )
        return locked.filter(pk__in=pks).order_by("pk")


class DatasetQuerySet(InNamespaces):
    def with_tables(self) -> Self:
        """With their namespaces and tables."""
        return self.select_related("namespace").prefetch_related("tables")
