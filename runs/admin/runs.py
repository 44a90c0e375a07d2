"""Runs and everything that belongs to them in the Django admin, for reading only."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html

from graphs.admin.base import ReadOnly, SomeRelated
from runs.models import (
    AnswerDeadline,
    Artifact,
    AuditEntry,
    Checkpoint,
    CheckpointBlob,
    CheckpointWrite,
    Cluster,
    LogLine,
    QueueEntry,
    RecurringRerun,
    Run,
    RunDeadline,
    RunNote,
    State,
    Tombstone,
    ToolResult,
)

MAX_SHORT_ID = 13


class FastList(ReadOnly):
    """A list of a large table, which the admin would otherwise count for every page."""

    show_full_result_count = False
    list_per_page = 50


@admin.register(Run)
class RunAdmin(FastList):
    list_display = ("short_id", "name", "status", "progress", "graph", "created_at")
    list_filter = ("status", "trigger", ("namespace", SomeRelated))
    list_select_related = ("graph__namespace",)
    search_fields = (
        "run_id__any_case",
        "name__any_case",
        "graph__name__any_case",
        "namespace__name__exact",
    )
    ordering = ("-id",)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:
        """Redirect to the page that the Run Manager has for the run."""
        if object_id.isascii() and object_id.isdigit():
            return redirect("run_page", int(object_id))
        return super().change_view(request, object_id, form_url, extra_context)

    @admin.display(description="run id", ordering="run_id")
    def short_id(self, run: Run) -> str:
        text = run.run_id
        if len(text) > MAX_SHORT_ID:
            text = f"{text[: MAX_SHORT_ID - 1]}…"
        return format_html('<span title="{}">{}</span>', run.run_id, text)


@admin.register(State)
class StateAdmin(FastList):
    payloads = ("inputs", "outputs", "chosen", "answer", "waiting_for", "error")
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
    list_filter = ("status", ("run__namespace", SomeRelated))
    list_select_related = ("run",)
    search_fields = ("run__run_id__exact", "identifier__exact")
    ordering = ("-id",)


@admin.register(LogLine)
class LogLineAdmin(FastList):
    payloads = ("message",)
    list_display = ("created_at", "level", "identifier", "message", "run")
    list_filter = ("level",)
    list_select_related = ("run",)
    search_fields = ("run__run_id__exact",)
    ordering = ("-id",)


@admin.register(Artifact)
class ArtifactAdmin(FastList):
    list_display = ("name", "kind", "size", "run", "identifier", "created_at", "download")
    list_filter = ("kind",)
    list_select_related = ("run__namespace",)
    search_fields = ("run__run_id__exact", "name__any_case")

    @admin.display(description="")
    def download(self, artifact: Artifact) -> str:
        run = artifact.run
        url = reverse("artifact-detail", args=[run.run_id, artifact.pk])
        return format_html('<a href="{}?namespace={}">Download</a>', url, run.namespace.name)


@admin.register(RunNote)
class RunNoteAdmin(FastList):
    list_display = ("id", "run", "author", "created_at")
    list_select_related = ("run",)
    search_fields = ("=run__run_id", "=author")
    ordering = ("-id",)


@admin.register(QueueEntry)
class QueueEntryAdmin(FastList):
    list_display = ("run", "available_at", "holder", "claimed_at", "claim")
    list_select_related = ("run",)
    search_fields = ("=run__run_id", "=holder")


@admin.register(AnswerDeadline)
class AnswerDeadlineAdmin(FastList):
    list_display = ("state", "run", "at")
    list_select_related = ("run",)
    search_fields = ("=run__run_id",)


@admin.register(RunDeadline)
class RunDeadlineAdmin(FastList):
    list_display = ("run", "start_by", "timeout", "at")
    list_select_related = ("run",)
    search_fields = ("=run__run_id",)


@admin.register(RecurringRerun)
class RecurringRerunAdmin(FastList):
    payloads = ("inputs", "error")
    list_display = ("run", "expression", "time_zone", "enabled", "next_at", "last_fired_at")
    list_select_related = ("run",)
    search_fields = ("=run__run_id",)
    ordering = ("-id",)


@admin.register(ToolResult)
class ToolResultAdmin(FastList):
    payloads = ("result",)
    list_display = ("key", "run", "created_at")
    list_select_related = ("run",)


@admin.register(Checkpoint)
class CheckpointAdmin(FastList):
    payloads = ("metadata", "versions")
    list_display = ("checkpoint_id", "ns", "run", "type", "created_at")
    list_select_related = ("run",)
    exclude = ("body",)


@admin.register(CheckpointBlob, CheckpointWrite)
class CheckpointPartAdmin(FastList):
    list_display = ("channel", "ns", "run", "type")
    list_select_related = ("run",)
    exclude = ("body",)


@admin.register(Cluster)
class ClusterAdmin(FastList):
    list_display = ("name", "host", "pid", "workers", "started_at", "seen_at", "restarts")


@admin.register(AuditEntry)
class AuditEntryAdmin(FastList):
    list_display = ("at", "actor", "via", "action", "run_id", "namespace", "detail")
    list_filter = ("at", "via", "action", ("namespace", SomeRelated))
    list_select_related = ("namespace",)
    search_fields = ("run_id__exact", "actor__exact", "detail__any_case")
    ordering = ("-id",)


@admin.register(Tombstone)
class TombstoneAdmin(FastList):
    list_display = ("run_id", "namespace", "at", "actor", "files")
    list_select_related = ("namespace",)
    search_fields = ("run_id__exact",)
    ordering = ("-id",)
