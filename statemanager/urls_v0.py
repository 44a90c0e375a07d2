"""The URLs below `/v0/namespace/{ns}`, both generations: reports go to `state/` and, from older workers, to `states/`."""

from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema, extend_schema_view

from graphs.api.v0 import views as graphs
from runs.api.v0 import runs, workers

REPORTS = {
    "executed": workers.ExecutedView,
    "errored": workers.ErroredView,
    "prune": workers.PruneView,
    "re-enqueue-after": workers.RequeueView,
    "manual-retry": workers.ManualRetryView,
    "secrets": workers.SecretsView,
    "heartbeat": workers.HeartbeatView,
    "release": workers.ReleaseView,
}


def older(verb: str) -> Any:
    """The view at its older path, which the schema shows as such."""
    view = REPORTS[verb]
    note = extend_schema(operation_id=f"v0_states_{verb.replace('-', '_')}", deprecated=True)
    return extend_schema_view(**{method.lower(): note for method in view.scopes})(
        type(f"Older{view.__name__}", (view,), {})
    )


urlpatterns = [
    path("nodes", graphs.NodesView.as_view()),
    path("graphs", graphs.GraphsView.as_view()),
    path("graph/<str:graph>", runs.GraphWithRunsView.as_view()),
    path("graph/<str:graph>/versions", graphs.VersionsView.as_view()),
    path("graph/<str:graph>/versions/<str:version>", graphs.VersionView.as_view()),
    path("graph/<str:graph>/rollback", graphs.RollbackView.as_view()),
    path("graph/<str:graph>/secrets/<str:secret>", graphs.SecretView.as_view()),
    path("graph/<str:graph>/metrics", runs.GraphMetricsView.as_view()),
    path("graph/<str:graph>/trigger", runs.TriggerView.as_view()),
    path("graph/<str:graph>/states/create", runs.CreateStatesView.as_view()),
    path("graph/<str:graph>/run/<str:run_id>/node/<str:state>", runs.NodeView.as_view()),
    path("states", runs.StatesView.as_view()),
    path("states/enqueue", workers.EnqueueView.as_view()),
    path("states/report", workers.ReportView.as_view()),
    path("states/run/<str:run_id>", runs.RunStatesView.as_view()),
    path("states/run/<str:run_id>/graph", runs.RunGraphView.as_view()),
    path("runs/<str:page>/<str:size>", runs.RunsView.as_view()),
    path("run/<str:run_id>/cancel", runs.CancelView.as_view()),
    path("run/<str:run_id>/pause", runs.PauseView.as_view()),
    path("run/<str:run_id>/resume", runs.ResumeView.as_view()),
    path("run/<str:run_id>/retry-failed", runs.RetryFailedView.as_view()),
    path("run/<str:run_id>/metrics", runs.RunMetricsView.as_view()),
    *(path(f"state/<str:state>/{verb}", view.as_view()) for verb, view in REPORTS.items()),
    *(path(f"states/<str:state>/{verb}", older(verb).as_view()) for verb in REPORTS),
]
