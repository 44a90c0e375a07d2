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
        """The caller's own views, then those shared with a group of the caller's, or in a namespace
        that the caller sees.
        """
        shared = Q(shared=True, group=None)
        if caller.namespaces is not None:
            shared &= Q(namespace__in=caller.namespaces)
        own_first = Case(When(_own(caller), then=0), default=1)
        views = self.filter(shared | _of_groups(caller) | _own(caller))
        views = views.select_related("owner", "namespace", "group")
        return views.order_by(own_first, "name", "id")

    def changeable_by(self, caller: "Caller") -> Self:
        """The caller's own views, and those shared where the caller may change runs.

        Views of a group belong to their owners, and to those who may do everything everywhere.
        """
        shared = Q(shared=True)
        if not (caller.may("admin") and caller.namespaces is None):
            shared &= Q(group=None)
        where = caller.where("change")
        if where is not None:
            shared &= where
        return self.filter(shared | _own(caller))


def _own(caller: "Caller") -> Q:
    return Q(owner=caller.user) if caller.user else Q(pk__in=())


def _of_groups(caller: "Caller") -> Q:
    if caller.user is None:
        return Q(pk__in=())
    return Q(shared=True, group__in=caller.user.groups.values("pk"))


class SavedView(models.Model):
    """A query of the run list under a name, for its owner or, if shared, for others, too.

    It is shared with its group, or with those who see its namespace; without either, with those who
    see all namespaces.
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
    group = models.ForeignKey(
        "auth.Group", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
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
    """The columns of the run list that a user has chosen, in order, and its default view."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+"
    )
    columns = models.JSONField(default=list)
    # Without a constraint the release before this one can delete views that are defaults.
    view = models.ForeignKey(
        SavedView,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_constraint=False,
    )

    def __str__(self) -> str:
        return ", ".join(self.columns)
