"""Runs and all that belongs to them in the Django admin: to look at, not to change."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from graphs.admin import ReadOnly
from runs import statuses
from runs.models import Artifact, Checkpoint, CheckpointBlob, CheckpointWrite, Cluster, LogLine, Run, State, ToolResult

admin.site.site_header = admin.site.site_title = "State Manager"
admin.site.index_title = "Overview"
for model in [model for model in admin.site._registry if model._meta.app_label == "django_q"]:
    admin.site.unregister(model)  # its pages can run any pickled call again; hints are not for people


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

    fieldsets = (
        (None, {"fields": ("run_id", "name", "status", "progress", "error_message", "current_node", "links")}),
        ("What runs", {"fields": ("namespace", "graph", "version", "dataset", "trigger", "initial_data", "store", "labels", "metadata", "max_steps")}),
        ("Who and why", {"fields": ("username", "workspace", "session_id", "purpose", "sop", "parent", "rerun_count")}),
        ("When", {"fields": ("created_at", "started_at", "finished_at", "updated_at", "revision")}),
        ("Counts", {"fields": ("pending_count", "waiting_count", "success_count", "errored_count", "retried_count", "cancelled_count", "emitted", "tally")}),
        ("Reported from outside", {"fields": ("data", "action_history", "current_step", "heuristic_count_at_checkpoint", "experience_count_at_checkpoint")}),
    )
    readonly_fields = ("links",)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        """With the actions that the run's status allows."""
        run = self.get_object(request, object_id)
        actions = statuses.RUN_ACTIONS[run.status] if run else ()
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "actions": actions})

    @admin.display(description="more")
    def links(self, run: Run) -> str:
        pages = (("States", "state"), ("Log", "logline"), ("Files", "artifact"))
        found = ((reverse(f"admin:runs_{page}_changelist"), run.pk, label) for label, page in pages)
        return format_html_join(" · ", '<a href="{}?run__id__exact={}">{}</a>', found)

    @admin.display(description="run id", ordering="run_id")
    def short_id(self, run: Run) -> str:
        return format_html('<span title="{}">{}</span>', run.run_id, run.run_id if len(run.run_id) <= 13 else f"{run.run_id[:12]}…")


@admin.register(State)
class StateAdmin(FastList):
    list_display = ("id", "identifier", "status", "run", "attempt", "retry_count", "created_at", "finished_at")
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
        url = reverse("artifact", args=[artifact.run.run_id, artifact.pk])
        return format_html('<a href="{}?namespace={}">Download</a>', url, artifact.run.namespace.name)


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
