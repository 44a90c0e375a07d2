"""The URLs of graphs, runs and what belongs to them, and of the Run Manager's API."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from runs.api.artifacts import ArtifactViewSet
from runs.api.bulk_operations import BulkOperationViewSet
from runs.api.checkpoints import CheckpointViewSet
from runs.api.documents import RunDocumentViewSet
from runs.api.graphs import GraphViewSet
from runs.api.inbox import InboxViewSet
from runs.api.inspection import RunInspectionViewSet
from runs.api.notes import NoteViewSet
from runs.api.notification_rules import NotificationRuleViewSet
from runs.api.queue import QueueViewSet
from runs.api.recurring_reruns import RecurringRerunViewSet
from runs.api.run_manager import RunManagerViewSet
from runs.api.run_templates import RunTemplateViewSet
from runs.api.runs import RunViewSet
from runs.api.saved_views import SavedViewViewSet
from runs.api.schedules import ScheduleViewSet
from runs.api.states import StateViewSet
from runs.api.threads import ThreadViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("graphs", GraphViewSet, "graph")
router.register("runs", RunViewSet, "run")
router.register("runs", RunDocumentViewSet, "run-document")
router.register("runs", RunInspectionViewSet, "run-inspection")
router.register("runs/<str:run_id>/states", StateViewSet, "state")
router.register("runs/<str:run_id>/artifacts", ArtifactViewSet, "artifact")
router.register("runs/<str:run_id>/checkpoints", CheckpointViewSet, "checkpoint")
router.register("runs/<str:run_id>/notes", NoteViewSet, "note")
router.register("inbox", InboxViewSet, "inbox")
router.register("notification-rules", NotificationRuleViewSet, "notification-rule")
router.register("queue", QueueViewSet, "queue")
router.register("recurring-reruns", RecurringRerunViewSet, "recurring-rerun")
router.register("schedules", ScheduleViewSet, "schedule")
router.register("templates", RunTemplateViewSet, "template")
router.register("admin/runs", ThreadViewSet, "thread")
router.register("admin/run-manager", RunManagerViewSet, "run-manager")
router.register("admin/run-manager/bulk-operations", BulkOperationViewSet, "bulk-operation")
router.register("admin/run-manager/saved-views", SavedViewViewSet, "saved-view")

urlpatterns = [
    *router.urls,
    path("v0/namespace/<str:ns>/", include("runs.api.v0.urls")),
    # The verb comes before the id, which routers can't express.
    path("start", ThreadViewSet.as_view({"post": "start"})),
    path("rerun/<str:thread_id>", ThreadViewSet.as_view({"post": "rerun"})),
    path("approve/<str:thread_id>", ThreadViewSet.as_view({"post": "approve"})),
]
