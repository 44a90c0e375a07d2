"""API keys."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from graphs.models.namespace import Namespace
from graphs.models.querysets import ApiKeyQuerySet


class ApiKey(models.Model):
    """The credential of a program.

    Only a hash of the secret is stored. `graphs.auth.api_keys` makes keys and checks them.
    """

    class Scope(models.TextChoices):
        READ = "read"
        RUN = "run"
        WORKER = "worker"
        ADMIN = "admin"

    name = models.CharField(max_length=100, blank=True)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    scope = models.CharField(max_length=10, choices=Scope.choices, default=Scope.RUN)
    namespaces = models.ManyToManyField(
        Namespace,
        blank=True,
        help_text="The namespaces that the key opens, unless it opens all of them.",
    )
    all_namespaces = models.BooleanField(
        default=False, help_text="The key opens every namespace, including those made later."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, editable=False
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    per_minute = models.PositiveIntegerField(
        "requests a minute",
        null=True,
        blank=True,
        help_text="The limit for requests with this key. Leave it empty for no limit.",
    )
    minute = models.DateTimeField(null=True, editable=False)
    minute_count = models.PositiveIntegerField(default=0, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(scope__in=["read", "run", "worker", "admin"]),
                name="sm_apikey_scope_known",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name or 'unnamed'} ({self.prefix}…)"
