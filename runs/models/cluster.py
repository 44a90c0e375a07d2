"""Supervised clusters."""

from django.db import models
from django.utils import timezone


class Cluster(models.Model):
    """A supervised django-q2 cluster; any sign of life of one of its workers sets `seen_at`."""

    name = models.CharField(max_length=100, primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    workers = models.PositiveIntegerField()
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    restarts = models.PositiveIntegerField(default=0)
    stopping = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.name
