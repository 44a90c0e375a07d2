"""How users see the run list: saved views and chosen columns."""

from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import Case, Q, When
from django.utils import timezone

from graphs.models import Namespace

if TYPE_CHECKING:
    from graphs.auth.callers import Caller


class SavedViewQuerySet(models.QuerySet[Any]):
    def visible_to(self, caller: "Caller") -> Self:
        """The caller's own views, then those shared in a namespace that the caller sees."""
        shared = Q(shared=True)
        if caller.namespaces is not None:
            shared &= Q(namespace__in=caller.namespaces)
        own_first = Case(When(_own(caller), then=0), default=1)
        views = self.filter(shared | _own(caller)).select_related("owner", "namespace")
        return views.order_by(own_first, "name", "id")

    def changeable_by(self, caller: "Caller") -> Self:
        """The caller's own views, and those shared where the caller may change runs."""
        shared = Q(shared=True)
        where = caller.where("change")
        if where is not None:
            shared &= where
        return self.filter(shared | _own(caller))


def _own(caller: "Caller") -> Q:
    return Q(owner=caller.user) if caller.user else Q(pk__in=())


class SavedView(models.Model):
    """A query of the run list under a name, for its owner or, if shared, for others, too.

    It is shared with those who see its namespace; without one, with those who see all namespaces.
    """

    name = models.CharField(max_length=100)
    query = models.CharField(
        max_length=4000, blank=True, help_text="The query string of the run list."
    )
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    shared = models.BooleanField(default=False)
    namespace = models.ForeignKey(
        Namespace, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)

    objects: Any = SavedViewQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "name"], name="sm_view_once_per_owner"),
            models.CheckConstraint(condition=~Q(name=""), name="sm_view_named"),
        ]

    def __str__(self) -> str:
        return self.name


class ColumnChoice(models.Model):
    """The columns of the run list that a user has chosen, in order."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+"
    )
    columns = models.JSONField(default=list)

    def __str__(self) -> str:
        return ", ".join(self.columns)
