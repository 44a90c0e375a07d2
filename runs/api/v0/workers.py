"""What external workers call under `/v0`: claiming states and reporting on them (contract sections A.6, A.7 and C, and beyond)."""

import random
from collections.abc import Sequence
from time import time
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.v0.base import REFUSALS, V0View, validated
from graphs.definition import errors, uuids
from graphs.models import ApiKey
from runs.api.v0 import rows, schemas
from runs.api.v0.runs import state_key
from runs.engine import retry
from runs.engine.types import Claimed
from runs.models import State
from runs.worker_api import claims
from runs.worker_api.reports import Answer, Report, Worker

IDLE_SECONDS = (1, 3)  # an idle worker is asked to come again after so long


class WorkerView(V0View):
    scopes = {"POST": "worker"}

    def worker(self, name: str = "") -> Worker:
        """Who works, by key; several processes of one key may add a name."""
        key = self.request.user
        label = f"key {key.prefix}" if isinstance(key, ApiKey) else self.caller.label
        return Worker(self.namespace.pk if self.namespace else 0, f"{label} {name}".strip()[:100])

    def report_on(self, report: Report) -> Answer:
        """Record one report. Raises what it is refused with."""
        [answer] = claims.report(self.worker(), [report]).answers
        if answer.refused:
            raise answer.refused
        return answer

    def claim_answer(self, claimed: Sequence[Claimed], asked: bool = True, **more: Any) -> Response:
        states = [rows.claimed(state, claims.lease_of(state)) for state in claimed]
        headers = (
            {"Retry-After": str(random.randint(*IDLE_SECONDS))} if asked and not states else {}
        )
        return Response(
            {
                "count": len(states),
                "namespace": self.name,
                "status": "QUEUED",
                "states": states,
                **more,
            },
            headers=headers,
        )


class EnqueueView(WorkerView):
    @extend_schema(
        operation_id="v0_states_enqueue",
        request=schemas.EnqueueBody,
        responses={200: schemas.EnqueueAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str) -> Response:
        """Claim up to `batch_size` (at most 1,000) ready states of these nodes, oldest first. An empty answer carries Retry-After."""
        body = self.body(schemas.EnqueueBody)
        return self.claim_answer(
            claims.claim(self.worker(body.worker), body.nodes, body.batch_size)
        )


class ReportView(WorkerView):
    @extend_schema(
        operation_id="v0_states_report",
        request=schemas.ReportBody,
        responses={200: schemas.ReportAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str) -> Response:
        """Report on several states and claim more, in one request. Successors of what is reported come first, then the oldest."""
        body = self.body(schemas.ReportBody)
        reports = [_report(each, at) for at, each in enumerate(body.reports)]
        done = claims.report(self.worker(body.worker), reports, body.nodes, body.batch_size)
        answers = [
            _reported(each.state_id, answer)
            for each, answer in zip(body.reports, done.answers, strict=True)
        ]
        return self.claim_answer(done.claimed, body.batch_size > 0, reports=answers)


_KINDS = {
    "outputs": "executed",
    "error": "errored",
    "prune": "prune",
    "enqueue_after": "again",
    "release": "release",
}


def _report(body: schemas.ReportShape, at: int) -> Report:
    given = {name: value for name in _KINDS if (value := getattr(body, name)) is not None}
    if len(given) != 1:
        message = f"a report holds exactly one of {', '.join(_KINDS)}"
        raise errors.Malformed(
            [
                {
                    "type": "value_error",
                    "loc": ["body", "reports", at],
                    "msg": message,
                    "input": sorted(given),
                }
            ]
        )
    [(name, value)] = given.items()
    details: dict[str, Any] = {
        "outputs": {"outputs": value},
        "error": {"error": value},
        "prune": {"outputs": [value]},
    }.get(name, {})
    if name == "enqueue_after":
        details = {"delay": value / 1000}
    return Report(_key_or_nobody(body.state_id), _KINDS[name], body.attempt, **details)


def _key_or_nobody(text: str) -> str:
    """What is no id is that of no state, so that one bad report doesn't refuse the others."""
    try:
        return state_key(text)
    except errors.NotFound:
        return "0" * 32


def _reported(state_id: str, answer: Answer) -> dict[str, Any]:
    if answer.refused:
        return {
            "state_id": state_id,
            "code": answer.refused.status,
            "detail": answer.refused.detail,
            "status": answer.refused.extra.get("state_status"),
        }
    return {
        "state_id": state_id,
        "code": 200,
        "status": answer.status,
        "retry_created": answer.retry_created if answer.status == "ERRORED" else None,
    }


class ExecutedView(WorkerView):
    @extend_schema(
        operation_id="v0_state_executed",
        request=schemas.ExecutedBody,
        responses={200: schemas.ExecutedAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str, state: str) -> Response:
        """The state succeeded. Several outputs are a fan-out; outputs that don't fit the registered schema fail the state (422)."""
        body = self.body(schemas.ExecutedBody)
        self.report_on(Report(state_key(state), "executed", body.attempt, body.outputs))
        return Response({"status": "EXECUTED"})


class ErroredView(WorkerView):
    @extend_schema(
        operation_id="v0_state_errored",
        request=schemas.ErroredBody,
        responses={200: schemas.ErroredAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str, state: str) -> Response:
        """The state failed; it is tried again as its graph's retry policy says."""
        body = self.body(schemas.ErroredBody)
        answer = self.report_on(Report(state_key(state), "errored", body.attempt, error=body.error))
        return Response({"status": "ERRORED", "retry_created": answer.retry_created})


class PruneView(WorkerView):
    @extend_schema(
        operation_id="v0_state_prune",
        request=schemas.PruneBody,
        responses={200: schemas.PrunedAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str, state: str) -> Response:
        """The branch ends here, without failing; `data` is kept. (SDKs before 0.0.2b4 send the bare data as the body.)"""
        body = self._prune_body()
        self.report_on(Report(state_key(state), "prune", body.attempt, [body.data]))
        return Response({"status": "PRUNED", "enqueue_after": int(time() * 1000)})

    def _prune_body(self) -> schemas.PruneBody:
        value = self.request.data
        if (
            isinstance(value, dict)
            and "data" not in value
            and int(self.request.META.get("CONTENT_LENGTH") or 0)
        ):
            return validated(schemas.PruneBody, {"data": value}, "body")
        return self.body(schemas.PruneBody)


class RequeueView(WorkerView):
    @extend_schema(
        operation_id="v0_state_requeue",
        request=schemas.RequeueBody,
        responses={200: schemas.RequeuedAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str, state: str) -> Response:
        """Run this state once more after a delay; that is neither a retry nor a failure."""
        body = self.body(schemas.RequeueBody)
        answer = self.report_on(
            Report(state_key(state), "again", body.attempt, delay=body.enqueue_after / 1000)
        )
        due = (
            answer.due.timestamp() * 1000
            if answer.due
            else timezone.now().timestamp() * 1000 + body.enqueue_after
        )
        return Response({"status": "CREATED", "enqueue_after": int(due)})


class ReleaseView(WorkerView):
    @extend_schema(
        operation_id="v0_state_release",
        request=schemas.ReleaseBody,
        responses={200: schemas.ReleasedAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str, state: str) -> Response:
        """Give back a claimed state that was not begun, so that another worker may take it at once."""
        body = self.body(schemas.ReleaseBody)
        self.report_on(Report(state_key(state), "release", body.attempt))
        return Response({"status": "CREATED"})


class HeartbeatView(WorkerView):
    @extend_schema(
        operation_id="v0_state_heartbeat",
        request=schemas.HeartbeatBody,
        responses={200: schemas.HeartbeatAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str, state: str) -> Response:
        """Extend the lease of a claimed state, and say how far it is. 409: it is not this worker's any more, so stop."""
        body = self.body(schemas.HeartbeatBody)
        lines = [(timezone.now(), line.level, line.message) for line in body.logs]
        lease = claims.heartbeat(
            self.worker(), state_key(state), body.attempt, body.lease_seconds, lines, body.progress
        )
        return Response({"status": "QUEUED", "lease_seconds": lease})


class SecretsView(WorkerView):
    scopes = {"GET": "worker"}

    @extend_schema(
        operation_id="v0_state_secrets", responses={200: schemas.SecretsAnswer, **REFUSALS}
    )
    def get(self, request: Request, ns: str, state: str) -> Response:
        """The secrets that the state's node declares; only for the worker that holds the state."""
        found = claims.readable_secrets(self.worker(), state_key(state))
        return Response({"secrets": found}, headers={"Cache-Control": "no-store"})


class ManualRetryView(WorkerView):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="v0_state_manual_retry",
        request=schemas.ManualRetryBody,
        responses={200: schemas.ManualRetryAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str, state: str) -> Response:
        """Try a state again that failed for good or was cancelled; the same `fanout_id` works once."""
        body = self.body(schemas.ManualRetryBody)
        found = (
            State.objects.select_related("run__version", "run__namespace")
            .filter(pk=state_key(state), run__namespace=self.namespace)
            .first()
        )
        if self.namespace is None or found is None:
            raise errors.NotFound(f"State not found: {state}")
        return Response(
            {
                "id": uuids.dashed(retry.retry_state(found, body.fanout_id, self.caller).id),
                "status": "CREATED",
            }
        )
