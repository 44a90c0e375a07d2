"""Runs and all that belongs to them in the Django admin: to look at, not to change."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html

from graphs.admin import ReadOnly
from runs.models import (
    Artifact,
    AuditEntry,
    Checkpoint,
    CheckpointBlob,
    CheckpointWrite,
    Cluster,
    LogLine,
    Run,
    State,
    Tombstone,
    ToolResult,
)

admin.site.site_header = admin.site.site_title = "State Manager"
admin.site.index_title = "Overview"
for model in [model for model in admin.site._registry if model._meta.app_label == "django_q"]:
    admin.site.unregister(
        model
    )  # its pages can run any pickled call again; hints are not for people


class FastList(ReadOnly):
    """A list over a large table: no exact count, and no more than the columns that it shows."""

    show_full_result_count = False
    list_per_page = 50


@admin.register(Run)
class RunAdmin(FastList):
    list_display = ("short_id", "name", "status", "progress", "graph", "created_at")
    list_filter = ("status", "trigger", "namespace")
    list_select_related = ("graph__namespace",)
    search_fields = ("run_id", "name", "graph__name")
    ordering = ("-id",)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """A run has a page of its own."""
        return (
            redirect("run_page", int(object_id))
            if object_id.isascii() and object_id.isdigit()
            else super().change_view(request, object_id, form_url, extra_context)
        )

    @admin.display(description="run id", ordering="run_id")
    def short_id(self, run: Run) -> str:
        return format_html(
            '<span title="{}">{}</span>',
            run.run_id,
            run.run_id if len(run.run_id) <= 13 else f"{run.run_id[:12]}…",
        )


@admin.register(State)
class StateAdmin(FastList):
    list_display = (
        "id",
        "identifier",
        "status",
        "run",
        "attempt",
        "retry_count",
        "created_at",
        "finished_at",
    )
    list_filter = ("status", "run__namespace")
    list_select_related = ("run",)
    search_fields = ("=run__run_id", "=identifier")
    ordering = ("-id",)


@admin.register(LogLine)
class LogLineAdmin(FastList):
    list_display = ("created_at", "level", "identifier", "message", "run")
    list_filter = ("level",)
    list_select_related = ("run",)
    search_fields = ("=run__run_id",)
    ordering = ("-id",)


@admin.register(Artifact)
class ArtifactAdmin(FastList):
    list_display = ("name", "kind", "size", "run", "identifier", "created_at", "download")
    list_filter = ("kind",)
    list_select_related = ("run__namespace",)
    search_fields = ("=run__run_id", "name")

    @admin.display(description="")
    def download(self, artifact: Artifact) -> str:
        url = reverse("artifact-detail", args=[artifact.run.run_id, artifact.pk])
        return format_html(
            '<a href="{}?namespace={}">Download</a>', url, artifact.run.namespace.name
        )


@admin.register(ToolResult)
class ToolResultAdmin(FastList):
    list_display = ("key", "run", "created_at")
    list_select_related = ("run",)


@admin.register(Checkpoint)
class CheckpointAdmin(FastList):
    list_display = ("checkpoint_id", "ns", "run", "type", "created_at")
    list_select_related = ("run",)
    exclude = ("body",)


@admin.register(CheckpointBlob, CheckpointWrite)
class CheckpointPartAdmin(FastList):
    list_display: Any = ("channel", "ns", "run", "type")
    list_select_related = ("run",)
    exclude = ("body",)


@admin.register(Cluster)
class ClusterAdmin(FastList):
    list_display = ("name", "host", "pid", "workers", "started_at", "seen_at", "restarts")


@admin.register(AuditEntry)
class AuditEntryAdmin(FastList):
    list_display = ("at", "actor", "via", "action", "run_id", "namespace", "detail")
    list_filter = ("action", "via", "namespace")
    list_select_related = ("namespace",)
    search_fields = ("=run_id", "=actor")
    ordering = ("-id",)


@admin.register(Tombstone)
class TombstoneAdmin(FastList):
    list_display = ("run_id", "namespace", "at", "actor", "files")
    list_select_related = ("namespace",)
    search_fields = ("=run_id",)
    ordering = ("-id",)
