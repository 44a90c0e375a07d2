"""Runs under `/v0`: listing, cancelling, pausing, resuming and retrying them."""

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.v0.base import REFUSALS, read_number
from runs.api.v0 import rows, schemas
from runs.api.v0.base import OfRunViewSet
from runs.api.v0.filters import V0FilterBackend
from runs.engine import control, retry
from runs.models import Run
from runs.queries import filters, lists, metrics

MAX_PAGE = 10**9
MAX_PAGE_SIZE = 200


class RunListViewSet(OfRunViewSet):
    """`/runs/{page}/{size}`; one run is at `/run/{run_id}`."""

    filter_backends = [V0FilterBackend]
    filterset_class = filters.RunFilter
    scopes = {"list": "read"}

    @extend_schema(operation_id="v0_runs_list", responses={200: schemas.RunsAnswer, **REFUSALS})
    def list(self, request: Request, ns: str, page: str, size: str) -> Response:
        """The runs of a namespace, newest first, with the counts of their states."""
        page_number = read_number(page, "page", 1, MAX_PAGE, "path")
        page_size = read_number(size, "size", 1, MAX_PAGE_SIZE, "path")
        runs = self.filter_queryset(self.runs())
        first = (page_number - 1) * page_size
        values = lists.run_page(runs, first, page_size).values_list(*rows.RUN_COLUMNS)
        cache_key = f"{self.namespace and self.namespace.pk} {sorted(request.query_params.lists())}"
        return Response(
            {
                "namespace": self.name,
                "total": lists.total(runs, cache_key),
                "page": page_number,
                "size": page_size,
                "runs": [rows.run_row(row) for row in values],
            }
        )


class RunViewSet(OfRunViewSet):
    lookup_url_kwarg = "run_id"
    scopes = {
        "cancel": "run",
        "pause": "run",
        "resume": "run",
        "retry_failed": "run",
        "metrics": "read",
    }

    @extend_schema(
        operation_id="v0_namespace_run_cancel_create",
        request=None,
        responses={200: schemas.SteeredAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, ns: str, run_id: str) -> Response:
        """Cancel the run. 409 names what the run's status allows."""
        return _moved(control.cancel_run(self.run(), self.caller))

    @extend_schema(
        operation_id="v0_namespace_run_pause_create",
        request=None,
        responses={200: schemas.SteeredAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, ns: str, run_id: str) -> Response:
        """Pause the run. 409 names what the run's status allows."""
        return _moved(control.pause_run(self.run(), self.caller))

    @extend_schema(
        operation_id="v0_namespace_run_resume_create",
        request=None,
        responses={200: schemas.SteeredAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, ns: str, run_id: str) -> Response:
        """Resume a paused run. 409 names what the run's status allows."""
        return _moved(control.resume_run(self.run(), self.caller))

    @extend_schema(
        operation_id="v0_run_retry_failed",
        request=None,
        responses={200: schemas.SteeredAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"], url_path="retry-failed")
    def retry_failed(self, request: Request, ns: str, run_id: str) -> Response:
        """Try every state of the run again that failed for good or was cancelled."""
        run = self.run()
        retries = retry.retry_failed(run, self.caller)
        run.refresh_from_db()
        return _moved(run, len(retries))

    @extend_schema(operation_id="v0_run_metrics", responses={200: schemas.RunMetrics, **REFUSALS})
    @action(detail=True)
    def metrics(self, request: Request, ns: str, run_id: str) -> Response:
        """How long the run and each of its nodes took and how often they failed."""
        run = self.run()
        return Response({"run_id": run.run_id, "status": run.status, **metrics.of_run(run)})


def _moved(run: Run, retried: int | None = None) -> Response:
    return Response({"run_id": run.run_id, "status": run.status, "retried": retried})
