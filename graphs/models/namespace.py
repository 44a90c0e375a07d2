"""Namespaces and the roles that users and groups have in them."""

from time import monotonic
from typing import ClassVar

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.backends.signals import connection_created
from django.db.models import Q
from django.dispatch import receiver
from django.utils import timezone

from graphs.definition.errors import InvalidGraph
from graphs.models.constraints import not_empty
from graphs.models.querysets import MembershipQuerySet

MAX_WEIGHT = 100


class Namespace(models.Model):
    """A tenant. Graphs, datasets, runs and keys belong to exactly one namespace."""

    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    max_stored_bytes = models.PositiveBigIntegerField(
        "most stored bytes",
        null=True,
        blank=True,
        help_text=(
            "How many bytes its runs may store in all. Beyond that, no run starts until others are "
            "deleted. Empty means no limit."
        ),
    )
    weight = models.PositiveSmallIntegerField(
        default=1,
        db_default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_WEIGHT)],
        help_text=(
            "Its share of the workers while several namespaces have work: one of weight 3 gets "
            "three turns for each turn of one of weight 1."
        ),
    )

    class Meta:
        ordering = ["name"]
        constraints: ClassVar = [not_empty("name", "sm_namespace_named")]

    def __str__(self) -> str:
        return self.name


class NamespaceMembership(models.Model):
    """The role of a user or a group in one namespace.

    It adds rights (`graphs.auth.callers.RIGHTS_OF_ROLE`) to those that their permissions give
    them in all namespaces.
    """

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer: sees runs without their payloads"
        READER = "reader", "Reader: sees and exports everything"
        OPERATOR = "operator", "Operator: also starts, reruns, cancels and answers"
        MANAGER = "manager", "Manager: also deletes and sets statuses"

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
                condition=Q(user=None) ^ Q(group=None),
                name="sm_membership_of_user_or_group",
                violation_error_message="Choose a user or a group, and not both.",
            ),
            models.CheckConstraint(
                condition=Q(role__in=["viewer", "reader", "operator", "manager"]),
                name="sm_membership_role_known",
            ),
            models.UniqueConstraint(
                fields=["namespace", "user"],
                condition=Q(group=None),
                name="sm_membership_once_per_user",
                violation_error_message="This user has a role in the namespace already.",
            ),
            models.UniqueConstraint(
                fields=["namespace", "group"],
                condition=Q(user=None),
                name="sm_membership_once_per_group",
                violation_error_message="This group has a role in the namespace already.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.group}: {self.role} of {self.namespace}"


KNOWN_SECONDS = 5.0
MAX_KNOWN = 1000
_namespaces: dict[str, tuple[float, Namespace]] = {}  # when each was read, and the row


def known_namespace(name: str) -> Namespace | None:
    """The namespace with this name; it may be up to KNOWN_SECONDS old.

    A process that connects to the database forgets all of them, because after a failover their
    keys may belong to others.
    """
    since, namespace = _namespaces.get(name, (0.0, None))
    if namespace is not None and monotonic() - since <= KNOWN_SECONDS:
        return namespace
    namespace = Namespace.objects.filter(name=name.replace("\x00", "")).first()
    if namespace is not None:
        if len(_namespaces) > MAX_KNOWN:
            _namespaces.clear()
        _namespaces[name] = monotonic(), namespace
    return namespace


def namespace_id(name: str) -> int:
    """The id of the namespace of an external node. Raises InvalidGraph if there is none."""
    namespace = known_namespace(name)
    if namespace is None:
        raise InvalidGraph(
            f"The graph has nodes of the namespace {name!r}, which does not exist. Create it, or"
            " register the nodes in another one."
        )
    return int(namespace.pk)


@receiver(connection_created)
def forget(**_: object) -> None:
    """Clear the cache of namespaces.

    A new connection may lead to a server that took over without the last commits of the old one.
    There the keys of lost rows are given to new ones.
    """
    _namespaces.clear()
