"""Graph templates under `/v0`, with their versions and secrets."""

from collections.abc import Mapping

from django.db import transaction
from django.db.models import Prefetch
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.v0 import schemas
from graphs.api.v0.base import REFUSALS, V0ViewSet, read_number
from graphs.api.v0.pagination import GraphPagination, VersionPagination
from graphs.auth.callers import Caller
from graphs.definition import errors, redaction
from graphs.definition.payloads import when
from graphs.definition.types import Json, JsonObject
from graphs.models import CronTrigger, Graph, GraphVersion, Secret
from graphs.models.querysets import GraphQuerySet
from graphs.services import publish, worker_registration
from graphs.services.exosphere_template import EMPTY, template_of

MAX_VERSION = 2**31 - 1


class GraphListViewSet(V0ViewSet):
    """`/graphs`; one graph is at `/graph/{graph}`."""

    pagination_class = GraphPagination
    scopes = {"list": "read"}

    @extend_schema(operation_id="v0_graphs_list", responses={200: schemas.GraphsAnswer, **REFUSALS})
    def list(self, request: Request, ns: str) -> Response:
        """The graph templates of a namespace, by name."""
        page = self.page(_with_parts().filter(namespace=self.namespace))
        templates = [
            {
                "_id": str(graph.pk),
                "name": graph.name,
                "namespace": self.name,
                **graph_json(graph, self.caller),
            }
            for graph in page
        ]
        return self.get_paginated_response(
            {"namespace": self.name, "count": len(templates), "templates": templates}
        )


class GraphViewSet(V0ViewSet):
    """`runs.api.v0.graphs` adds what needs runs: deleting, triggering and metrics."""

    lookup_url_kwarg = "graph"
    scopes = {"retrieve": "read", "update": "run", "rollback": "run"}

    @extend_schema(operation_id="v0_graph_read", responses={200: schemas.GraphAnswer, **REFUSALS})
    def retrieve(self, request: Request, ns: str, graph: str) -> Response:
        """A graph template as it is stored, with its problems. Secret values are never shown."""
        return Response(graph_json(self.graph(_with_parts()), self.caller))

    @extend_schema(
        operation_id="v0_graph_put",
        request=schemas.GraphBody,
        responses={201: schemas.GraphAnswer, **REFUSALS},
    )
    def update(self, request: Request, ns: str, graph: str) -> Response:
        """Create or change a graph. It is validated at once.

        Storing the same template again doesn't create a version.
        """
        body = self.body(schemas.GraphBody)
        template = {
            "nodes": [node.model_dump() for node in body.nodes],
            "retry_policy": (body.retry_policy or schemas.RetryPolicyShape()).model_dump(),
            "store_config": (body.store_config or schemas.StoreConfigShape()).model_dump(),
            "lease": body.lease,
        }
        triggers = [
            (trigger.value.expression, trigger.value.timezone) for trigger in body.triggers or ()
        ]
        with transaction.atomic():  # a graph that is refused creates no namespace
            stored = worker_registration.put_graph(
                self.own_namespace, graph, template, body.secrets, triggers, self.caller
            )
        return Response(graph_json(_with_parts().get(pk=stored.pk), self.caller), 201)

    @extend_schema(
        operation_id="v0_graph_rollback",
        request=schemas.RollbackBody,
        responses={200: schemas.GraphAnswer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def rollback(self, request: Request, ns: str, graph: str) -> Response:
        """Make a former version the current one. Runs that have started keep theirs."""
        stored = self.graph()
        version = self.body(schemas.RollbackBody).version
        current = publish.roll_back(stored, version, self.caller)
        return Response(graph_json(_with_parts().get(pk=current.pk), self.caller))


class VersionViewSet(V0ViewSet):
    lookup_url_kwarg = "version"
    pagination_class = VersionPagination
    scopes = {"list": "read", "retrieve": "read"}

    @extend_schema(
        operation_id="v0_versions_list", responses={200: schemas.VersionsAnswer, **REFUSALS}
    )
    def list(self, request: Request, ns: str, graph: str) -> Response:
        """The versions of a graph, newest first. A run keeps the one that it started with."""
        stored = self.graph()
        versions = stored.versions.select_related("created_by").defer("definition")
        page = [_version_json(version, stored) for version in self.page(versions)]
        return self.get_paginated_response(
            {
                "namespace": self.name,
                "graph_name": stored.name,
                "count": len(page),
                "versions": page,
            }
        )

    @extend_schema(
        operation_id="v0_versions_read", responses={200: schemas.VersionAnswer, **REFUSALS}
    )
    def retrieve(self, request: Request, ns: str, graph: str, version: str) -> Response:
        """One version with its template."""
        stored = self.graph()
        number = read_number(version, "version", 1, MAX_VERSION, "path")
        stored_version = stored.versions.filter(number=number).first()
        if stored_version is None:
            raise errors.NotFound(f"The graph {stored.name!r} has no version {version}.")
        return Response(
            {
                **_version_json(stored_version, stored),
                **_template(stored, stored_version.definition, self.caller),
                "validation_errors": [problem["message"] for problem in stored_version.problems],
            }
        )


class SecretViewSet(V0ViewSet):
    lookup_url_kwarg = "secret"
    scopes = {"update": "run", "destroy": "run"}

    @extend_schema(
        operation_id="v0_secret_put",
        request=schemas.SecretBody,
        responses={200: schemas.SecretNamesAnswer, **REFUSALS},
    )
    def update(self, request: Request, ns: str, graph: str, secret: str) -> Response:
        """Set one secret of a graph. Answers name the graph's secrets but never show values."""
        stored = self.graph()
        value = self.body(schemas.SecretBody).value
        return _secret_names(worker_registration.set_secret(stored, secret, value, self.caller))

    @extend_schema(
        operation_id="v0_secret_delete", responses={200: schemas.SecretNamesAnswer, **REFUSALS}
    )
    def destroy(self, request: Request, ns: str, graph: str, secret: str) -> Response:
        """Delete one secret of a graph."""
        stored = worker_registration.set_secret(self.graph(), secret, None, self.caller)
        return _secret_names(stored)


def _secret_names(graph: Graph) -> Response:
    names = graph.secrets.values_list("name", flat=True)
    return Response({"secrets": dict.fromkeys(names, True)})


def _with_parts() -> GraphQuerySet:
    """Graphs with their current versions, the names of their secrets, and their triggers."""
    secret_names = Secret.objects.only("graph_id", "name").order_by("name")
    triggers = CronTrigger.objects.only("graph_id", "expression", "time_zone", "error")
    return Graph.objects.select_related("current").prefetch_related(
        Prefetch("secrets", secret_names),
        Prefetch("triggers", triggers.order_by("expression", "time_zone")),
    )


def graph_json(graph: Graph, caller: Caller) -> JsonObject:
    """A graph that was read with its parts, as `/v0` shows it to the caller."""
    version = graph.current
    problems = version.problems if version else [{"message": "it has no definition"}]
    return {
        **_template(graph, version.definition if version else EMPTY, caller),
        "secrets": {secret.name: True for secret in graph.secrets.all()},
        "triggers": [_trigger_json(trigger) for trigger in graph.triggers.all()],
        "created_at": when(graph.created_at),
        "updated_at": when(graph.updated_at),
        "validation_status": "INVALID" if problems else "VALID",
        "validation_errors": [_sentence(problem) for problem in problems],
        "version": version.number if version else 0,
    }


def _template(graph: Graph, definition: Mapping[str, Json], caller: Caller) -> JsonObject:
    may_see = caller.can("payloads", graph.namespace_id)
    return template_of(redaction.definition_shown(definition, may_see))


def _sentence(problem: JsonObject) -> str:
    node = problem.get("nodeId")
    return f"{node}: {problem['message']}" if node else problem["message"]


def _trigger_json(trigger: CronTrigger) -> JsonObject:
    schedule = {"expression": trigger.expression}
    if trigger.time_zone != "UTC":
        schedule["timezone"] = trigger.time_zone
    trigger_json: JsonObject = {"type": "CRON", "value": schedule}
    if trigger.error:
        trigger_json["error"] = trigger.error
    return trigger_json


def _version_json(version: GraphVersion, graph: Graph) -> JsonObject:
    return {
        "version": version.number,
        "current": version.pk == graph.current_id,
        "validation_status": "INVALID" if version.problems else "VALID",
        "checksum": version.checksum,
        "note": version.note,
        "created_at": when(version.created_at),
        "created_by": version.created_by.get_username() if version.created_by else None,
    }
