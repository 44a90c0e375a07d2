"""Graph templates under `/v0`, with what needs their runs."""

from collections.abc import Sequence

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.v0 import graphs
from graphs.api.v0.base import REFUSALS
from graphs.api.v0.schemas import DeletedAnswer
from graphs.definition import errors, uuids
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from graphs.models import Graph
from runs.actions.delete import delete_graph
from runs.api.v0 import rows, schemas
from runs.api.v0.base import OfRunViewSet
from runs.engine.create_states import create_states
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.engine.types import NewState
from runs.models import Run, State
from runs.queries import lists, metrics


class GraphViewSet(graphs.GraphViewSet, OfRunViewSet):
    scopes = {
        **graphs.GraphViewSet.scopes,
        "destroy": "admin",
        "trigger": "run",
        "create_states": "run",
        "metrics": "read",
        "node": "read",
    }

    @extend_schema(operation_id="v0_graph_delete", responses={200: DeletedAnswer, **REFUSALS})
    def destroy(self, request: Request, ns: str, graph: str) -> Response:
        """Delete a graph with its versions, secrets, triggers and runs."""
        return Response({"status": "DELETED", "runs": delete_graph(self.graph(), self.caller)})

    @extend_schema(
        operation_id="v0_trigger",
        request=schemas.TriggerBody,
        responses={200: schemas.TriggerAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def trigger(self, request: Request, ns: str, graph: str) -> Response:
        """Start a run of the graph's current version and return at once.

        The older form of the body creates the given states in a new run instead.
        """
        body = self.body(schemas.TriggerBody)
        stored = self.graph()
        run_id = body.run_id or ""
        if body.states is not None:
            run, states = self._create_states(stored, run_id, body)
            created = _created_json(run, stored, states)
            return Response({"run_id": run.run_id, "status": "CREATED", "states": created})
        options = RunOptions(
            run_id=run_id,
            inputs=body.inputs,
            store=body.store,
            delay=body.start_delay / 1000,
            priority=body.priority,
        )
        run = start_run(stored, options, caller=self.caller)
        return Response({"status": "CREATED", "run_id": run.run_id})

    @extend_schema(
        operation_id="v0_states_create",
        request=schemas.CreateBody,
        responses={200: schemas.CreateAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"], url_path="states/create")
    def create_states(self, request: Request, ns: str, graph: str) -> Response:
        """Create states of any nodes of the graph, with these inputs, in the run of this id."""
        body = self.body(schemas.CreateBody)
        stored = self.graph()
        run, states = self._create_states(stored, body.run_id, body)
        return Response({"status": "CREATED", "states": _created_json(run, stored, states)})

    @extend_schema(
        operation_id="v0_graph_metrics", responses={200: schemas.GraphMetrics, **REFUSALS}
    )
    @action(detail=True)
    def metrics(self, request: Request, ns: str, graph: str) -> Response:
        """How long a graph's newest runs and its nodes took and how often they failed."""
        stored = self.graph()
        runs = Run.objects.filter(graph=stored)
        return Response({"graph_name": stored.name, **metrics.of_graph(runs)})

    @extend_schema(operation_id="v0_node", responses={200: schemas.NodeDetails, **REFUSALS})
    @action(detail=True, url_path="run/<str:run_id>/node/<str:state>")
    def node(self, request: Request, ns: str, graph: str, run_id: str, state: str) -> Response:
        """One state of a run of this graph."""
        states = State.objects.filter(
            pk=rows.state_key(state, errors.StateManagerError),
            run__namespace=self.namespace,
            run__run_id=run_id.replace("\x00", ""),
            run__graph__name=graph.replace("\x00", ""),
        )
        matches = lists.rows_of(states) if self.namespace else []
        if not matches:
            raise errors.NotFound(f"Node not found: {state}")
        self.hide_payloads(matches)
        return Response(rows.details(matches[0]))

    def _create_states(
        self, graph: Graph, run_id: str, body: schemas.CreateBody | schemas.TriggerBody
    ) -> tuple[Run, Sequence[NewState]]:
        inputs_by_node = [(state.identifier, state.inputs) for state in body.states or ()]
        return create_states(
            graph,
            run_id,
            inputs_by_node,
            self.caller,
            inputs=body.inputs or None,
            delay=body.start_delay / 1000,
        )


def _created_json(run: Run, graph: Graph, states: Sequence[NewState]) -> list[JsonObject]:
    return [
        {
            "state_id": uuids.dashed(state.id),
            "node_name": state.run.plan.nodes[state.identifier].kind,
            "identifier": state.identifier,
            "graph_name": graph.name,
            "run_id": run.run_id,
            "inputs": state.inputs,
            "created_at": when(uuids.made_at(state.id)),
        }
        for state in states
    ]
