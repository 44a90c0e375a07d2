"""The URLs of datasets and `/v0`'s namespaces. Graphs are routed by `runs.api.urls`."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from graphs.api.datasets import DatasetViewSet
from graphs.api.v0.health import HealthView
from graphs.api.v0.nodes import NamespaceViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("datasets", DatasetViewSet, "dataset")
router.register("v0/namespaces", NamespaceViewSet, "v0-namespace")

urlpatterns = [
    *router.urls,
    path("health", HealthView.as_view()),
]
