"""Runs under `/v0`: triggering, listing, looking into, steering (contract sections A.5, A.8 and B, and beyond)."""

from collections.abc import Sequence
from typing import Any

from django_filters import FilterSet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.v0.base import REFUSALS, V0View, whole
from graphs.api.v0.schemas import DeletedAnswer
from graphs.api.v0.views import AFTER, LIMIT, GraphView, stamp
from graphs.definition import errors, redaction, uuids
from graphs.models import Graph
from runs.actions.delete import delete_graph
from runs.api.v0 import rows, schemas
from runs.engine import control, create_states, retry
from runs.engine.start import RunOptions, start_run
from runs.engine.types import NewState
from runs.models import Run, State
from runs.queries import filters, lists, metrics

MAX_STATES = 1000
MAX_NODES = 5000
MAX_RUNS = 200


def query_of(*sets: type[FilterSet]) -> list[OpenApiParameter]:
    """The filters of a list as its query parameters."""
    named = {name: each for filterset in sets for name, each in filterset.base_filters.items()}
    return [
        OpenApiParameter(name, str, description=each.extra.get("help_text", ""))
        for name, each in named.items()
    ]


def filtered(filterset: type[FilterSet], request: Request, rows: Any) -> Any:
    """The rows that the query asks for. Raises Malformed naming each filter that can't be read."""
    if filterset.base_filters.keys().isdisjoint(request.query_params):
        return rows  # building a form to find nothing in it takes longer than the list
    asked = filterset(
        {name: ",".join(values) for name, values in request.query_params.lists()}, queryset=rows
    )
    if not asked.is_valid():
        wrong = [
            {
                "type": "value_error",
                "loc": ["query", name],
                "msg": " ".join(each),
                "input": request.query_params.get(name),
            }
            for name, each in asked.errors.items()
        ]
        raise errors.Malformed(wrong)
    if any("\x00" in value for values in request.query_params.lists() for value in values[1]):
        raise errors.Malformed("A query holds no NUL characters.")
    return asked.qs


class RunsOfNamespace(V0View):
    """What the views of this module share."""

    def run(self, run_id: str, runs: Any = None) -> Run | None:
        found = (
            runs
            if runs is not None
            else Run.objects.select_related("graph", "version", "namespace")
        ).filter(namespace=self.namespace)
        return found.filter(run_id=run_id.replace("\x00", "")).first() if self.namespace else None

    def existing_run(self, run_id: str) -> Run:
        if (run := self.run(run_id)) is None:
            raise errors.NotFound(
                f"There is no run {run_id[:200]!r} in namespace {self.name[:100]!r}."
            )
        return run

    def hide(self, states: list[lists.StateRow]) -> None:
        """Take the payloads out for who may not see them."""
        redaction.hide(
            states, self.namespace is not None and self.caller.can("payloads", self.namespace.pk)
        )

    def runs(self) -> Any:
        return (
            Run.objects.filter(namespace=self.namespace) if self.namespace else Run.objects.none()
        )


def _made(run: Run, graph: Graph, states: Sequence[NewState]) -> list[dict[str, Any]]:
    return [
        {
            "state_id": uuids.dashed(state.id),
            "node_name": state.run.plan.nodes[state.identifier].kind,
            "identifier": state.identifier,
            "graph_name": graph.name,
            "run_id": run.run_id,
            "inputs": state.inputs,
            "created_at": stamp(uuids.made_at(state.id)),
        }
        for state in states
    ]


class TriggerView(V0View):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="v0_trigger",
        request=schemas.TriggerBody,
        responses={200: schemas.TriggerAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str, graph: str) -> Response:
        """Start a run of the graph's current version and return at once; or, in the older form, make the given states in a new run."""
        body = self.body(schemas.TriggerBody)
        found = self.graph(graph)
        if body.states is not None:
            run, states = create_states.create_states(
                found,
                body.run_id or "",
                [(state.identifier, state.inputs) for state in body.states],
                self.caller,
            )
            return Response(
                {"run_id": run.run_id, "status": "CREATED", "states": _made(run, found, states)}
            )
        options = RunOptions(
            run_id=body.run_id or "",
            inputs=body.inputs,
            store=body.store,
            delay=body.start_delay / 1000,
        )
        return Response(
            {"status": "CREATED", "run_id": start_run(found, options, caller=self.caller).run_id}
        )


class CreateStatesView(V0View):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="v0_states_create",
        request=schemas.CreateBody,
        responses={200: schemas.CreateAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str, graph: str) -> Response:
        """Make states at any nodes of the graph, with these inputs, in the run of this id."""
        body = self.body(schemas.CreateBody)
        found = self.graph(graph)
        run, states = create_states.create_states(
            found,
            body.run_id,
            [(state.identifier, state.inputs) for state in body.states],
            self.caller,
        )
        return Response({"status": "CREATED", "states": _made(run, found, states)})


class StatesView(RunsOfNamespace):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="v0_states_list",
        parameters=[LIMIT, AFTER, *query_of(filters.StateFilter, filters.OfRunFilter)],
        responses={200: schemas.StatesAnswer, **REFUSALS},
    )
    def get(self, request: Request, ns: str) -> Response:
        """The states of a namespace, those of the newest run first. `next` leads on."""
        runs, states = (
            filtered(filters.OfRunFilter, request, self.runs()),
            filtered(filters.StateFilter, request, State.objects.all()),
        )
        narrow = any(request.query_params.get(name) for name in filters.StateFilter.base_filters)
        found, following = lists.states_of_runs(
            runs, states, narrow, request.query_params.get("after", ""), self.limit(MAX_STATES)
        )
        self.hide(found)
        shown, following = _shown(found, following, self.name)
        run_ids = list(dict.fromkeys(item["run_id"] for item in shown))
        return Response(
            {
                "namespace": self.name,
                "count": len(shown),
                "states": shown,
                "run_ids": run_ids,
                "next": following,
            }
        )


def _shown(
    states: list[lists.StateRow], following: str | None, namespace: str
) -> tuple[list[dict[str, Any]], str | None]:
    shown = rows.items(states, namespace)
    return shown, following if len(shown) == len(states) else lists.cursor_after(
        states[len(shown) - 1]
    )


class RunStatesView(RunsOfNamespace):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="v0_run_states",
        parameters=[LIMIT, AFTER, *query_of(filters.StateFilter)],
        responses={200: schemas.RunStatesAnswer, **REFUSALS},
    )
    def get(self, request: Request, ns: str, run_id: str) -> Response:
        """The states of one run in the order in which they were made; none for an unknown run."""
        run, limit, after = (
            self.run(run_id),
            self.limit(MAX_STATES),
            request.query_params.get("after", ""),
        )
        states = filtered(filters.StateFilter, request, State.objects.all())
        found, following = lists.states_of_run(run, states, after, limit) if run else ([], None)
        self.hide(found)
        shown, following = _shown(found, following, self.name)
        return Response(
            {
                "namespace": self.name,
                "run_id": run_id,
                "count": len(shown),
                "states": shown,
                "next": following,
            }
        )


class RunsView(RunsOfNamespace):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="v0_runs_list",
        parameters=query_of(filters.RunFilter),
        responses={200: schemas.RunsAnswer, **REFUSALS},
    )
    def get(self, request: Request, ns: str, page: str, size: str) -> Response:
        """The runs of a namespace, newest first, with the counts that are kept of their states."""
        number, length = (
            whole(page, "page", 1, 10**9, "path"),
            whole(size, "size", 1, MAX_RUNS, "path"),
        )
        found = filtered(filters.RunFilter, request, self.runs())
        shown = lists.run_page(found, (number - 1) * length, length).values_list(*rows.RUN_COLUMNS)
        key = f"{self.namespace and self.namespace.pk} {sorted(request.query_params.lists())}"
        counted = {"total": lists.total(found, key), "page": number, "size": length}
        return Response(
            {"namespace": self.name, **counted, "runs": [rows.run_row(row) for row in shown]}
        )


class RunGraphView(RunsOfNamespace):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="v0_run_graph",
        parameters=[LIMIT, AFTER],
        responses={200: schemas.RunGraphAnswer, **REFUSALS},
    )
    def get(self, request: Request, ns: str, run_id: str) -> Response:
        """The states of a run as nodes and edges from the state that made each; empty for an unknown run."""
        run, limit, after = (
            self.run(run_id),
            self.limit(MAX_NODES),
            request.query_params.get("after", ""),
        )
        found, following = (
            lists.states_of_run(run, State.objects.all(), after, limit, lists.LIGHT)
            if run
            else ([], None)
        )
        return Response(rows.run_graph(run, found, following))


class NodeView(RunsOfNamespace):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="v0_node", responses={200: schemas.NodeDetails, **REFUSALS})
    def get(self, request: Request, ns: str, graph: str, run_id: str, state: str) -> Response:
        """One state of a run of this graph."""
        pk = state_key(state, errors.StateManagerError)
        found = State.objects.filter(
            pk=pk,
            run__namespace=self.namespace,
            run__run_id=run_id.replace("\x00", ""),
            run__graph__name=graph.replace("\x00", ""),
        )
        read = lists.rows_of(found) if self.namespace else []
        if not read:
            raise errors.NotFound(f"Node not found: {state}")
        self.hide(read)
        return Response(rows.details(read[0]))


def state_key(text: str, otherwise: type[errors.StateManagerError] = errors.NotFound) -> str:
    """The 32 hex digits of a state's id; ids that were imported from an Exosphere system may be given in their own 24."""
    digits = text.replace("-", "").lower()
    digits = f"{'0' * 8}{digits}" if len(digits) == 24 else digits
    if len(digits) != 32 or not set(digits) <= set("0123456789abcdef"):
        raise otherwise(f"{text[:50]!r} is no state id.")
    return digits


class SteerView(RunsOfNamespace):
    """POST one of the verbs that move a run."""

    scopes = {"POST": "run"}
    verb: Any = None

    @extend_schema(request=None, responses={200: schemas.SteeredAnswer, **REFUSALS})
    def post(self, request: Request, ns: str, run_id: str) -> Response:
        """Move the run; 409 names what is allowed."""
        run = self.verb(self.existing_run(run_id), self.caller)
        return Response({"run_id": run.run_id, "status": run.status, "retried": None})


class CancelView(SteerView):
    verb = staticmethod(control.cancel_run)


class PauseView(SteerView):
    verb = staticmethod(control.pause_run)


class ResumeView(SteerView):
    verb = staticmethod(control.resume_run)


class RetryFailedView(RunsOfNamespace):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="v0_run_retry_failed",
        request=None,
        responses={200: schemas.SteeredAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str, run_id: str) -> Response:
        """Try again every state of the run that failed for good or was cancelled."""
        run = self.existing_run(run_id)
        retries = retry.retry_failed(run, self.caller)
        run.refresh_from_db()
        return Response({"run_id": run.run_id, "status": run.status, "retried": len(retries)})


class RunMetricsView(RunsOfNamespace):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="v0_run_metrics", responses={200: schemas.RunMetrics, **REFUSALS})
    def get(self, request: Request, ns: str, run_id: str) -> Response:
        """How long the run and each of its nodes took and how often they failed."""
        run = self.existing_run(run_id)
        return Response({"run_id": run.run_id, "status": run.status, **metrics.of_run(run)})


class GraphMetricsView(V0View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="v0_graph_metrics", responses={200: schemas.GraphMetrics, **REFUSALS}
    )
    def get(self, request: Request, ns: str, graph: str) -> Response:
        """The same over the newest runs of a graph."""
        found = self.graph(graph)
        return Response(
            {"graph_name": found.name, **metrics.of_graph(Run.objects.filter(graph=found))}
        )


class GraphWithRunsView(GraphView):
    scopes = {**GraphView.scopes, "DELETE": "admin"}

    @extend_schema(operation_id="v0_graph_delete", responses={200: DeletedAnswer, **REFUSALS})
    def delete(self, request: Request, ns: str, graph: str) -> Response:
        """Delete a graph with its versions, secrets and triggers, its runs and whatever of them is pending."""
        return Response({"status": "DELETED", "runs": delete_graph(self.graph(graph), self.caller)})
