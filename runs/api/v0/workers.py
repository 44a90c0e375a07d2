"""What external workers call under `/v0`: claiming states and reporting several at once."""

import random
from collections.abc import Callable, Sequence

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.v0.base import REFUSALS, V0ViewSet
from graphs.definition import errors
from graphs.definition.types import Json, JsonObject
from graphs.models import ApiKey
from runs.api.v0 import rows
from runs.api.v0 import worker_schemas as schemas
from runs.engine.types import Claimed
from runs.worker_api import claims
from runs.worker_api.reports import Answer, Report, Worker

IDLE_SECONDS = (1, 3)  # the range of Retry-After, which spreads the requests of idle workers
NO_STATE = "0" * rows.STATE_ID_DIGITS


class WorkerViewSet(V0ViewSet):
    """What the viewsets for workers share."""

    def worker(self, name: str = "") -> Worker:
        """The calling worker, named by its key; processes that share a key may add a name."""
        key = self.request.user
        label = f"key {key.prefix}" if isinstance(key, ApiKey) else self.caller.label
        namespace_id = self.namespace.pk if self.namespace else 0
        return Worker(namespace_id, f"{label} {name}".strip()[:100])


class ClaimViewSet(WorkerViewSet):
    scopes = {"enqueue": "worker", "report": "worker"}

    @extend_schema(
        operation_id="v0_states_enqueue",
        request=schemas.EnqueueBody,
        responses={200: schemas.EnqueueAnswer, **REFUSALS},
    )
    @action(detail=False, methods=["post"])
    def enqueue(self, request: Request, ns: str) -> Response:
        """Claim up to `batch_size` (at most 1,000) ready states of these nodes, oldest first.

        If there are none, the answer has a Retry-After header.
        """
        body = self.body(schemas.EnqueueBody)
        claimed = claims.claim(self.worker(body.worker), body.nodes, body.batch_size)
        return self._claimed(claimed, may_wait=True)

    @extend_schema(
        operation_id="v0_states_report",
        request=schemas.ReportBody,
        responses={200: schemas.ReportAnswer, **REFUSALS},
    )
    @action(detail=False, methods=["post"])
    def report(self, request: Request, ns: str) -> Response:
        """Report on several states and claim more, in one request.

        Successors of the reported states are claimed first, then the oldest.
        """
        body = self.body(schemas.ReportBody)
        reports = [_report(report, index) for index, report in enumerate(body.reports)]
        worker = self.worker(body.worker)
        reported = claims.report(worker, reports, body.nodes, body.batch_size)
        results = [
            _result(report.state_id, answer)
            for report, answer in zip(body.reports, reported.answers, strict=True)
        ]
        may_wait = body.batch_size > 0
        return self._claimed(reported.claimed, may_wait=may_wait, reports=results)

    def _claimed(self, claimed: Sequence[Claimed], may_wait: bool, **members: Json) -> Response:
        states = [rows.claimed(state, claims.lease_of(state)) for state in claimed]
        headers = {}
        if may_wait and not states:
            headers["Retry-After"] = str(random.randint(*IDLE_SECONDS))
        body = {
            "count": len(states),
            "namespace": self.name,
            "status": "QUEUED",
            "states": states,
            **members,
        }
        return Response(body, headers=headers)


# The member of a report that says what came of the state: the report's kind and its other fields.
OUTCOMES: dict[str, tuple[str, Callable[[Json], JsonObject]]] = {
    "outputs": ("executed", lambda outputs: {"outputs": outputs}),
    "error": ("errored", lambda error: {"error": error}),
    "prune": ("prune", lambda data: {"outputs": [data]}),
    "enqueue_after": ("again", lambda milliseconds: {"delay": milliseconds / 1000}),
    "release": ("release", lambda _: {}),
}


def _report(body: schemas.ReportShape, index: int) -> Report:
    """Raises Malformed unless exactly one member says what came of the state."""
    members = [name for name in OUTCOMES if getattr(body, name) is not None]
    if len(members) != 1:
        problem = {
            "type": "value_error",
            "loc": ["body", "reports", index],
            "msg": f"a report must have exactly one of {', '.join(OUTCOMES)}",
            "input": sorted(members),
        }
        raise errors.Malformed([problem])
    name = members[0]
    kind, fields = OUTCOMES[name]
    return Report(_state_key(body.state_id), kind, body.attempt, **fields(getattr(body, name)))


def _state_key(text: str) -> str:
    """The state's id; that of no state for a bad one, so that the other reports are accepted."""
    try:
        return rows.state_key(text)
    except errors.NotFound:
        return NO_STATE


def _result(state_id: str, answer: Answer) -> JsonObject:
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
