"""The URLs below `/v0/namespace/{ns}`."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from graphs.api.v0.graphs import GraphListViewSet, SecretViewSet, VersionViewSet
from graphs.api.v0.nodes import NodeViewSet
from runs.api.v0.graphs import GraphViewSet
from runs.api.v0.reports import OlderReportViewSet, ReportViewSet
from runs.api.v0.runs import RunListViewSet, RunViewSet
from runs.api.v0.states import StateViewSet
from runs.api.v0.workers import ClaimViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("graphs", GraphListViewSet, "v0-graphs")
router.register("graph/<str:graph>/versions", VersionViewSet, "v0-version")
router.register("graph/<str:graph>/secrets", SecretViewSet, "v0-secret")
router.register("graph", GraphViewSet, "v0-graph")
router.register("states", StateViewSet, "v0-states")
router.register("states", ClaimViewSet, "v0-claim")
router.register("run", RunViewSet, "v0-run")
router.register("state", ReportViewSet, "v0-report")
router.register("states", OlderReportViewSet, "v0-older-report")

urlpatterns = [
    *router.urls,
    # Routers know no PUT to a list and no page numbers in the path.
    path("nodes", NodeViewSet.as_view({"get": "list", "put": "register"})),
    path("runs/<str:page>/<str:size>", RunListViewSet.as_view({"get": "list"})),
]
