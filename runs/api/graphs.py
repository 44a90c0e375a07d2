"""Graphs, with what needs their runs: starting, listing and deleting them."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import graphs
from graphs.api.lookups import dataset_of
from graphs.api.pagination import read_limit
from graphs.api.schema import REFUSALS
from graphs.definition import errors, redaction
from graphs.definition.names import parse_id
from graphs.models import Dataset, Graph
from runs.actions.delete import delete_graph
from runs.api.concurrency import ConcurrencySerializer
from runs.api.lookups import is_unchanged, not_modified, revision_tag, tagged
from runs.api.metrics import GraphMetricsSerializer
from runs.api.serializers import (
    NOT_SHOWN,
    TAIL_LINES,
    RunSerializer,
    StartedManySerializer,
    StartedSerializer,
    StartManySerializer,
    StartSerializer,
    options_of,
)
from runs.engine.start import start_run
from runs.engine.start_many import start_many
from runs.models import LogLine, Run
from runs.queries import metrics, slots

RUNS_LIMIT = OpenApiParameter("limit", int, description="1–200, default 50")


class GraphViewSet(graphs.GraphViewSet):
    scopes = {
        **graphs.GraphViewSet.scopes,
        "destroy": "admin",
        "start": "run",
        "runs": "read",
        "start_many": "run",
        "metrics": "read",
        "concurrency": "read",
    }
    bodies = (*graphs.GraphViewSet.bodies, "start", "start_many")
    queries = {
        "start": ("dataset_id",),
        "start_many": ("dataset_id",),
        "runs": ("limit",),
    }

    @extend_schema(operation_id="graphs_delete", responses={204: None, **REFUSALS})
    def destroy(self, request: Request, graph_id: str) -> Response:
        """Delete a graph with its versions and all its runs."""
        delete_graph(self.get_object(), self.caller)
        return Response(status=204)

    @extend_schema(
        operation_id="graphs_run",
        parameters=[OpenApiParameter("dataset_id", int)],
        request=StartSerializer,
        responses={200: StartedSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"], url_path="run")
    def start(self, request: Request, graph_id: str) -> Response:
        """Queue a run and return at once.

        Sending the same body with the same run_id again returns the same run.
        """
        graph = self.get_object()
        options = options_of(self.validated(StartSerializer))
        run = start_run(graph, options, self._dataset(graph), self.caller)
        return Response(StartedSerializer(run).data)

    @extend_schema(
        operation_id="graphs_runs",
        parameters=[RUNS_LIMIT],
        responses={200: RunSerializer(many=True), 304: None, **REFUSALS},
    )
    @action(detail=True)
    def runs(self, request: Request, graph_id: str) -> Response:
        """The newest runs of a graph, newest first; 304 while none of them has changed."""
        graph = self.get_object()
        limit = read_limit(request, 50, 200)
        newest = Run.objects.filter(graph=graph).order_by("-id")
        tag = revision_tag(newest.values_list("pk", "revision")[:limit])
        if is_unchanged(request, tag):
            return not_modified(tag)

        runs = list(newest.for_wire().defer(*NOT_SHOWN)[:limit])
        tails = LogLine.objects.tails([run.pk for run in runs], TAIL_LINES)
        may_see = self.caller.can("payloads", graph.namespace_id)
        for records in (runs, *tails.values()):
            redaction.hide(records, may_see)
        return tagged(RunSerializer(runs, many=True, context={"tails": tails}).data, tag)

    @extend_schema(
        operation_id="graphs_start_runs",
        parameters=[OpenApiParameter("dataset_id", int)],
        request=StartManySerializer,
        responses={200: StartedManySerializer, **REFUSALS},
    )
    @runs.mapping.post
    def start_many(self, request: Request, graph_id: str) -> Response:
        """Queue up to 10,000 runs and return at once: all of them, or none.

        The answer lists them in the order of the request. A refusal names every problem. Sending
        the same runs with the same run_ids again returns the same runs, and starts those that are
        missing.
        """
        graph = self.get_object()
        requested = [options_of(values) for values in self.validated(StartManySerializer)["runs"]]
        runs = start_many(graph, requested, self._dataset(graph), self.caller)
        return Response({"runs": StartedSerializer(runs, many=True).data})

    @extend_schema(
        operation_id="graphs_metrics", responses={200: GraphMetricsSerializer, **REFUSALS}
    )
    @action(detail=True)
    def metrics(self, request: Request, graph_id: str) -> Response:
        """How long the newest runs of the graph and their nodes took, and how often they failed."""
        runs = Run.objects.filter(graph=self.get_object())
        return Response(GraphMetricsSerializer(metrics.of_graph(runs)).data)

    @extend_schema(
        operation_id="graphs_concurrency", responses={200: ConcurrencySerializer, **REFUSALS}
    )
    @action(detail=True)
    def concurrency(self, request: Request, graph_id: str) -> Response:
        """The graph's concurrency limit: how many runs hold its slots, and how many wait."""
        graph = self.get_object()
        payloads = self.caller.can("payloads", graph.namespace_id)
        return Response(ConcurrencySerializer(slots.of_graph(graph, payloads)).data)

    def _dataset(self, graph: Graph) -> Dataset | None:
        """The dataset that the query names.

        Raises Malformed for what is no id, and NotFound for a dataset of another namespace.
        """
        dataset_id = self.request.query_params.get("dataset_id")
        if not dataset_id:
            return None
        if parse_id(dataset_id) is None:
            message = "It is the id of a dataset, a whole number."
            problem = {"loc": ["query", "dataset_id"], "msg": message, "type": "value_error"}
            raise errors.Malformed([problem])
        dataset = dataset_of(self.caller, dataset_id)
        if dataset.namespace_id != graph.namespace_id:
            raise errors.NotFound(f"The namespace {graph.namespace} has no dataset {dataset_id!r}.")
        return dataset
