"""The queue of external runs over REST: programs list, claim, hold and give back runs."""

import random

from django.core import signing
from django.db.models import Q, QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from graphs.api.pagination import parameter, read_limit
from graphs.api.schema import REFUSALS
from graphs.definition import errors
from graphs.definition.types import JsonObject
from runs.api.lookups import NAMESPACE
from runs.api.queue_serializers import (
    ClaimedRunSerializer,
    ClaimedRunsSerializer,
    ClaimRunsSerializer,
    HeartbeatSerializer,
    HeldSerializer,
    LeaseSerializer,
    QueuedRunSerializer,
    QueueSerializer,
    ReleasedSerializer,
    lease,
)
from runs.api.viewsets import OfRunViewSet
from runs.external import queue
from runs.models import QueueEntry
from runs.queries.queue import QueueFilter, waiting, with_runs
from statemanager.conf import conf

IDLE_SECONDS = (1, 3)  # the range of Retry-After, which spreads the requests of idle programs
DEFAULT_LIMIT = 50
MAX_LIMIT = 200


class QueuePagination(BasePagination):
    """`limit`, and `after`: the `next` of the previous page; null on the last one.

    A cursor names a place in the order of the queue and not a run, so it stays good when the run
    is taken.
    """

    next: str | None = None
    salt = "runs.queue"

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet[QueueEntry], request: Request, view: APIView | None = None
    ) -> list[QueueEntry]:
        """Raises Malformed when `limit` or `after` can't be read."""
        limit = read_limit(request, DEFAULT_LIMIT, MAX_LIMIT)
        after = request.query_params.get("after")
        if after:
            queryset = queryset.filter(self._behind(after))
        entries = list(queryset[: limit + 1])
        if len(entries) > limit:
            last = entries[limit - 1]
            self.next = signing.dumps([str(last.available_at), last.pk], salt=self.salt)
        return entries[:limit]

    def _behind(self, after: str) -> Q:
        """The first condition alone is what the index is entered by."""
        try:
            available_at, pk = signing.loads(after, salt=self.salt)
        except signing.BadSignature:
            raise errors.Malformed("after must be the `next` of a previous page.") from None
        entered = Q(available_at__gte=available_at)
        return entered & (Q(available_at__gt=available_at) | Q(pk__gt=pk))

    def get_paginated_response(self, data: JsonObject) -> Response:
        return Response({"runs": data, "next": self.next})

    def get_schema_operation_parameters(self, view: APIView) -> list[JsonObject]:
        return [
            parameter("limit", f"1–{MAX_LIMIT}, default {DEFAULT_LIMIT}", "integer"),
            parameter("after", "The `next` of the previous page."),
        ]


class QueueViewSet(OfRunViewSet):
    lookup_url_kwarg = "run_id"
    pagination_class = QueuePagination
    filter_backends = [DjangoFilterBackend]  # documents the filters, which `list` applies
    filterset_class = QueueFilter
    scopes = {"list": "worker", "claim": "worker", "heartbeat": "worker", "release": "worker"}
    bodies = ("claim", "heartbeat", "release")
    every_query = ()
    queries = {"heartbeat": ("namespace",), "release": ("namespace",)}

    @extend_schema(operation_id="queue_list", responses={200: QueueSerializer, **REFUSALS})
    def list(self, request: Request) -> Response:
        """The external runs that wait for a program, the longest waiting first.

        These are reruns, runs that were started with a delay that is over or with `enqueue`, and
        runs whose program has lost its lease.
        """
        query = request.query_params
        filters = {name: query[name] for name in QueueFilter.base_filters if name in query}
        entries = self.page(with_runs(waiting(self.caller, filters)))
        return self.get_paginated_response(QueuedRunSerializer(entries, many=True).data)

    @extend_schema(
        operation_id="queue_claim",
        request=ClaimRunsSerializer,
        responses={200: ClaimedRunsSerializer, **REFUSALS},
    )
    @action(detail=False, methods=["post"])
    def claim(self, request: Request) -> Response:
        """Take up to `limit` runs of the queue, the longest waiting first.

        Each is held for `lease_seconds`, which heartbeats and reports extend. If there are none,
        the answer has a Retry-After header.
        """
        data = self.validated(ClaimRunsSerializer, may_be_empty=True)
        limit = data.pop("limit")
        seconds = data.pop("lease_seconds", float(conf.WORKER_LEASE_SECONDS))
        name = f"{self.caller.label} {data.pop('worker', '')}".strip()
        entries = queue.claim(waiting(self.caller, data), queue.Claimer(name, seconds), limit)
        headers = {} if entries else {"Retry-After": str(random.randint(*IDLE_SECONDS))}
        return Response({"runs": ClaimedRunSerializer(entries, many=True).data}, headers=headers)

    @extend_schema(
        operation_id="queue_heartbeat",
        parameters=[NAMESPACE],
        request=HeartbeatSerializer,
        responses={200: LeaseSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def heartbeat(self, request: Request, run_id: str) -> Response:
        """Extend the lease of a run. 409 if it is lost, or if the run has ended."""
        data = self.validated(HeartbeatSerializer)
        run = self.run()
        entry = queue.heartbeat(run, self.caller, data["claim"], data.get("lease_seconds"))
        return Response({"run_id": run.run_id, "status": run.status, **lease(entry)})

    @extend_schema(
        operation_id="queue_release",
        parameters=[NAMESPACE],
        request=HeldSerializer,
        responses={200: ReleasedSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def release(self, request: Request, run_id: str) -> Response:
        """Give a run back, so that another program may take it at once. 409 as for a heartbeat."""
        data = self.validated(HeldSerializer)
        run = self.run()
        queue.release(run, self.caller, data["claim"])
        run.refresh_from_db(fields=["status"])
        return Response({"run_id": run.run_id, "status": run.status})
