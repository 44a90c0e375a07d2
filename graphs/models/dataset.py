"""Datasets and their tables."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from graphs.models.constraints import not_empty
from graphs.models.namespace import Namespace
from graphs.models.querysets import DatasetQuerySet


class Dataset(models.Model):
    """A set of named tables that runs read."""

    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(max_length=200)
    source = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = DatasetQuerySet.as_manager()

    class Meta:
        ordering = ["namespace__name", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["namespace", "name"], name="sm_dataset_once_per_namespace"
            ),
            not_empty("name", "sm_dataset_named"),
        ]

    def __str__(self) -> str:
        return f"{self.namespace.name}/{self.name}"


class DatasetTable(models.Model):
    """One table of a dataset: a CSV or JSON Lines file in UTF-8, in the default storage."""

    class Format(models.TextChoices):
        CSV = "csv"
        JSONL = "jsonl"

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="tables")
    name = models.CharField(max_length=200)
    file = models.CharField(max_length=500)
    format = models.CharField(max_length=5, choices=Format.choices)
    columns = models.JSONField(default=list)
    rows = models.BigIntegerField(default=0)
    size = models.BigIntegerField(default=0)
    checksum = models.CharField(max_length=64)

    class Meta:
        ordering = ["dataset_id", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["dataset", "name"], name="sm_table_once_per_dataset"),
            models.CheckConstraint(
                condition=Q(format__in=["csv", "jsonl"]), name="sm_table_format_known"
            ),
            models.CheckConstraint(
                condition=Q(rows__gte=0, size__gte=0), name="sm_table_counts_positive"
            ),
            not_empty("name", "sm_table_named"),
        ]

    def __str__(self) -> str:
        return self.name
