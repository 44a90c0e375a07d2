"""The URLs of datasets, tokens and `/v0`'s namespaces. Graphs are routed by `runs.api.urls`."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from graphs.api.datasets import DatasetViewSet
from graphs.api.tokens import RefreshView, RevokeView, TokenView
from graphs.api.v0.health import HealthView
from graphs.api.v0.nodes import NamespaceViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("datasets", DatasetViewSet, "dataset")
router.register("v0/namespaces", NamespaceViewSet, "v0-namespace")

urlpatterns = [
    *router.urls,
    # Not resources, but single operations.
    path("token", TokenView.as_view()),
    path("token/refresh", RefreshView.as_view()),
    path("token/revoke", RevokeView.as_view()),
    path("health", HealthView.as_view()),
]
