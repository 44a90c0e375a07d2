"""Reports on one state under `/v0`, and what else a worker or an operator does with it."""

from time import time

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.v0.base import REFUSALS, validate
from graphs.definition import errors, uuids
from runs.api.v0 import worker_schemas as schemas
from runs.api.v0.rows import state_key
from runs.api.v0.workers import WorkerViewSet
from runs.core import sql
from runs.engine import retry
from runs.models import State
from runs.worker_api import claims
from runs.worker_api.reports import Answer, Report


class ReportViewSet(WorkerViewSet):
    """`/state/{state}/...`."""

    lookup_url_kwarg = "state"
    scopes = {
        "executed": "worker",
        "errored": "worker",
        "prune": "worker",
        "requeue": "worker",
        "release": "worker",
        "heartbeat": "worker",
        "secrets": "worker",
        "manual_retry": "run",
    }

    @extend_schema(
        operation_id="v0_state_executed",
        request=schemas.ExecutedBody,
        responses={200: schemas.ExecutedAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def executed(self, request: Request, ns: str, state: str) -> Response:
        """The state succeeded. Several outputs are a fan-out.

        Outputs that don't match the registered schema fail the state (422).
        """
        body = self.body(schemas.ExecutedBody)
        self._report(Report(state_key(state), "executed", body.attempt, body.outputs))
        return Response({"status": "EXECUTED"})

    @extend_schema(
        operation_id="v0_state_errored",
        request=schemas.ErroredBody,
        responses={200: schemas.ErroredAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def errored(self, request: Request, ns: str, state: str) -> Response:
        """The state failed. It is retried according to the graph's retry policy."""
        body = self.body(schemas.ErroredBody)
        answer = self._report(Report(state_key(state), "errored", body.attempt, error=body.error))
        return Response({"status": "ERRORED", "retry_created": answer.retry_created})

    @extend_schema(
        operation_id="v0_state_prune",
        request=schemas.PruneBody,
        responses={200: schemas.PrunedAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def prune(self, request: Request, ns: str, state: str) -> Response:
        """The branch ends here without failing; `data` is stored.

        SDKs before 0.0.2b4 send the bare data as the body, also here and also if it is empty. They
        end their task at a refusal.
        """
        body = self._prune_body()
        self._report(Report(state_key(state), "prune", body.attempt, [body.data]))
        return Response({"status": "PRUNED", "enqueue_after": int(time() * 1000)})

    @extend_schema(
        operation_id="v0_state_requeue",
        request=schemas.RequeueBody,
        responses={200: schemas.RequeuedAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"], url_path="re-enqueue-after")
    def requeue(self, request: Request, ns: str, state: str) -> Response:
        """Run this state once more after a delay, which is neither a retry nor a failure."""
        body = self.body(schemas.RequeueBody)
        delay_seconds = body.enqueue_after / 1000
        report = Report(state_key(state), "again", body.attempt, delay=delay_seconds)
        due = self._report(report).due
        due_seconds = due.timestamp() if due else sql.clock().timestamp() + delay_seconds
        return Response({"status": "CREATED", "enqueue_after": int(due_seconds * 1000)})

    @extend_schema(
        operation_id="v0_state_release",
        request=schemas.ReleaseBody,
        responses={200: schemas.ReleasedAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def release(self, request: Request, ns: str, state: str) -> Response:
        """Give back a claimed state that was not begun, so that another worker may claim it."""
        body = self.body(schemas.ReleaseBody)
        self._report(Report(state_key(state), "release", body.attempt))
        return Response({"status": "CREATED"})

    @extend_schema(
        operation_id="v0_state_heartbeat",
        request=schemas.HeartbeatBody,
        responses={200: schemas.HeartbeatAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def heartbeat(self, request: Request, ns: str, state: str) -> Response:
        """Extend the lease of a claimed state, and report its progress.

        409 means that the state no longer belongs to this worker, which should stop.
        """
        body = self.body(schemas.HeartbeatBody)
        lines = [(timezone.now(), line.level, line.message) for line in body.logs]
        lease_seconds = claims.heartbeat(
            self.worker(), state_key(state), body.attempt, body.lease_seconds, lines, body.progress
        )
        return Response({"status": "QUEUED", "lease_seconds": lease_seconds})

    @extend_schema(
        operation_id="v0_state_secrets", responses={200: schemas.SecretsAnswer, **REFUSALS}
    )
    @action(detail=True)
    def secrets(self, request: Request, ns: str, state: str) -> Response:
        """The secrets that the state's node declares, for the worker that holds the state."""
        secrets = claims.readable_secrets(self.worker(), state_key(state))
        return Response({"secrets": secrets}, headers={"Cache-Control": "no-store"})

    @extend_schema(
        operation_id="v0_state_manual_retry",
        request=schemas.ManualRetryBody,
        responses={200: schemas.ManualRetryAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"], url_path="manual-retry")
    def manual_retry(self, request: Request, ns: str, state: str) -> Response:
        """Retry a state that failed for good or was cancelled; a `fanout_id` works once."""
        fanout_id = self.body(schemas.ManualRetryBody).fanout_id
        stored = None
        if self.namespace is not None:
            states = State.objects.select_related("run__version", "run__namespace")
            pk = state_key(state)
            stored = states.filter(pk=pk, run__namespace=self.namespace).first()
        if stored is None:
            raise errors.NotFound(f"State not found: {state}")
        new_state = retry.retry_state(stored, fanout_id, self.caller)
        return Response({"id": uuids.dashed(new_state.id), "status": "CREATED"})

    def _report(self, report: Report) -> Answer:
        """Record a report. Raises the error with which it is refused."""
        [answer] = claims.report(self.worker(), [report]).answers
        if answer.refused:
            raise answer.refused
        return answer

    def _prune_body(self) -> schemas.PruneBody:
        data = self.request.data
        has_body = int(self.request.META.get("CONTENT_LENGTH") or 0) > 0
        if has_body and isinstance(data, dict) and "data" not in data:
            return validate(schemas.PruneBody, {"data": data}, "body")
        return self.body(schemas.PruneBody)


@extend_schema_view(
    executed=extend_schema(operation_id="v0_states_executed", deprecated=True),
    errored=extend_schema(operation_id="v0_states_errored", deprecated=True),
    prune=extend_schema(operation_id="v0_states_prune", deprecated=True),
    requeue=extend_schema(operation_id="v0_states_re_enqueue_after", deprecated=True),
    release=extend_schema(operation_id="v0_states_release", deprecated=True),
    heartbeat=extend_schema(operation_id="v0_states_heartbeat", deprecated=True),
    secrets=extend_schema(operation_id="v0_states_secrets", deprecated=True),
    manual_retry=extend_schema(operation_id="v0_states_manual_retry", deprecated=True),
)
class OlderReportViewSet(ReportViewSet):
    """`/states/{state}/...`, where older workers send their reports."""
