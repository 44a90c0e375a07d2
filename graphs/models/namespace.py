"""Namespaces and the roles that users and groups have in them."""

from functools import lru_cache
from time import monotonic
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from graphs.definition.errors import InvalidGraph
from graphs.models.constraints import not_empty
from graphs.models.querysets import MembershipQuerySet


class Namespace(models.Model):
    """The tenant: everything else lies in one."""

    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints: ClassVar = [not_empty("name", "sm_namespace_named")]

    def __str__(self) -> str:
        return self.name


class NamespaceMembership(models.Model):
    """What a user or a group may do in one namespace, beside what their permissions allow everywhere (`graphs.auth.callers.OF_ROLE`)."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer: sees runs, not what is in them"
        READER = "reader", "Reader: sees everything and exports it"
        OPERATOR = "operator", "Operator: starts, reruns, cancels and answers, too"
        MANAGER = "manager", "Manager: deletes and sets statuses, too"

    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    group = models.ForeignKey(
        "auth.Group", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        verbose_name = "membership"
        ordering = ["namespace__name", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(user=None) ^ Q(group=None), name="sm_membership_of_user_or_group"
            ),
            models.CheckConstraint(
                condition=Q(role__in=["viewer", "reader", "operator", "manager"]),
                name="sm_membership_role_known",
            ),
            models.UniqueConstraint(
                fields=["namespace", "user"],
                condition=Q(group=None),
                name="sm_membership_once_per_user",
            ),
            models.UniqueConstraint(
                fields=["namespace", "group"],
                condition=Q(user=None),
                name="sm_membership_once_per_group",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.group}: {self.role} of {self.namespace}"


@lru_cache(maxsize=512)
def namespace_id(name: str) -> int:
    """The id of a namespace, which is never deleted. Raises InvalidGraph when there is none."""
    found = Namespace.objects.values_list("pk", flat=True).filter(name=name).first()
    if found is None:
        raise InvalidGraph(f"There is no namespace {name!r} whose workers could run this.")
    return int(found)


KNOWN_SECONDS = 5.0
_namespaces: dict[str, tuple[float, Namespace]] = {}


def known_namespace(name: str) -> Namespace | None:
    """The namespace of this name, read at most once in some seconds. Who is to write into it reads it again."""
    since, found = _namespaces.get(name, (0.0, None))
    if found is None or monotonic() - since > KNOWN_SECONDS:
        found = Namespace.objects.filter(name=name.replace("\x00", "")).first()
        if found is not None:
            if len(_namespaces) > 1000:
                _namespaces.clear()
            _namespaces[name] = monotonic(), found
    return found


def forget() -> None:
    """Drop what this process knows of namespaces (tests reuse row ids)."""
    namespace_id.cache_clear()
    _namespaces.clear()
