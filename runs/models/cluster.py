"""Supervised clusters."""

from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.utils import timezone

MISSED_PROBES = 3  # after so many unanswered probes a cluster counts as stuck or gone
MIN_SILENCE_SECONDS = 15


class ClusterQuerySet(models.QuerySet["Cluster"]):
    def alive(self, now: datetime) -> Self:
        """The clusters that gave a sign of life recently enough.

        An idle cluster only gives signs of life when it answers its supervisor's probes, so how
        long it may be silent depends on how often it is probed.
        """
        seconds = max(MIN_SILENCE_SECONDS, MISSED_PROBES * settings.PROBE_SECONDS)
        return self.filter(seen_at__gt=now - timedelta(seconds=seconds))


class Cluster(models.Model):
    """A supervised django-q2 cluster. Any sign of life of one of its workers sets `seen_at`."""

    name = models.CharField(max_length=100, primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    workers = models.PositiveIntegerField()
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    restarts = models.PositiveIntegerField(default=0)
    stopping = models.BooleanField(default=False)

    objects = ClusterQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name
