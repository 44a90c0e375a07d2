"""Named reads of what could run. `visible_to` is the one place that says who sees whose rows."""

from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.models import Q

if TYPE_CHECKING:
    from graphs.auth.callers import Caller


class InNamespaces(models.QuerySet[Any]):
    """Rows that carry a `namespace`."""

    def visible_to(self, caller: "Caller") -> Self:
        """The rows of the namespaces that the caller may see."""
        return self if caller.namespaces is None else self.filter(namespace__in=caller.namespaces)


class ApiKeyQuerySet(models.QuerySet[Any]):
    def usable(self, now: Any) -> Self:
        """Neither revoked nor expired at this moment."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)


class MembershipQuerySet(models.QuerySet[Any]):
    def of(self, user: Any) -> Self:
        """Those of the user and of the user's groups."""
        return self.filter(Q(user=user) | Q(group__in=user.groups.all()))


class GraphQuerySet(InNamespaces):
    def with_version(self) -> Self:
        return self.select_related("namespace", "current")


class DatasetQuerySet(InNamespaces):
    def with_tables(self) -> Self:
        return self.select_related("namespace").prefetch_related("tables")
