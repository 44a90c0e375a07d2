"""Supervised clusters."""

from datetime import timedelta
from typing import Any, Self

from django.db import models
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from statemanager.conf import conf

# A cluster that leaves this many probes unanswered is replaced by its supervisor.
MISSED_PROBES = 3
# A cluster counts as alive for one probe longer, so that it is not lost from view while it is
# being replaced.
ALIVE_PROBES = MISSED_PROBES + 1


class ClusterQuerySet(models.QuerySet[Any]):
    def alive(self, within: float | None = None) -> Self:
        """The clusters that showed a sign of life lately, by the database's clock.

        An idle cluster shows one for each probe of its supervisor, so "lately" is `ALIVE_PROBES`
        times PROBE_SECONDS; `within` sets another number of seconds.
        """
        seconds = ALIVE_PROBES * conf.PROBE_SECONDS if within is None else within
        return self.filter(seen_at__gt=Now() - timedelta(seconds=seconds))

    def answered(self) -> Self:
        """The clusters that have shown a sign of life since they were started."""
        return self.filter(seen_at__gt=F("started_at"))


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
    start_error = models.TextField(
        blank=True,
        default="",
        db_default="",
        help_text="Why the last start failed; empty once a worker has answered.",
    )

    objects = ClusterQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name
