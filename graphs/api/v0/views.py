"""Namespaces, nodes, graph templates, their versions and secrets under `/v0` (contract sections A.2, A.3 and B)."""

from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import Prefetch
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from graphs.api.v0 import schemas
from graphs.api.v0.base import REFUSALS, V0View, whole
from graphs.definition import errors
from graphs.models import CronTrigger, Graph, GraphVersion, Namespace, RegisteredNode, Secret
from graphs.services import publish, worker_registration
from graphs.services.exosphere_template import EMPTY, template_of

LIMIT = OpenApiParameter("limit", int, description="how many at most; 1 to 1000")
AFTER = OpenApiParameter("after", str, description="the `next` of the page before")


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class HealthView(APIView):
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    @extend_schema(operation_id="v0_health", responses={200: OpenApiTypes.OBJECT}, auth=[])
    def get(self, request: Request) -> Response:
        """Whether this server answers."""
        return Response({"message": "OK"})


class NamespacesView(V0View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="v0_namespaces",
        parameters=[LIMIT, AFTER],
        responses={200: schemas.NamespacesAnswer, **REFUSALS},
    )
    def get(self, request: Request) -> Response:
        """The namespaces that have registered nodes, by name, among those that the caller sees."""
        found = Namespace.objects.filter(nodes__executor=RegisteredNode.Executor.WORKER).distinct()
        if self.caller.namespaces is not None:
            found = found.filter(pk__in=self.caller.namespaces)
        names, following = page(self, found.order_by("name"), "name", ("name",))
        return Response(
            {"namespaces": [name for (name,) in names], "count": len(names), "next": following}
        )


class NodesView(V0View):
    scopes = {"GET": "read", "PUT": "worker"}

    @extend_schema(
        operation_id="v0_nodes_register",
        request=schemas.RegisterBody,
        responses={200: schemas.RegisteredAnswer, **REFUSALS},
    )
    def put(self, request: Request, ns: str) -> Response:
        """Register the nodes of a runtime, or change them; all or none."""
        body = self.body(schemas.RegisterBody)
        nodes = [node.model_dump() for node in body.nodes]
        worker_registration.register(self.own_namespace, body.runtime_name, nodes)
        return Response({"runtime_name": body.runtime_name, "registered_nodes": nodes})

    @extend_schema(
        operation_id="v0_nodes_list",
        parameters=[LIMIT, AFTER],
        responses={200: schemas.NodesAnswer, **REFUSALS},
    )
    def get(self, request: Request, ns: str) -> Response:
        """The registered nodes of a namespace, by name."""
        columns = (
            "id",
            "name",
            "runtime_name",
            "inputs_schema",
            "outputs_schema",
            "secrets",
            "created_at",
            "updated_at",
        )
        rows, following = page(
            self,
            RegisteredNode.objects.filter(namespace=self.namespace).order_by("name"),
            "name",
            columns,
        )
        nodes = [self._node(dict(zip(columns, row, strict=True))) for row in rows]
        return Response(
            {"namespace": self.name, "count": len(nodes), "nodes": nodes, "next": following}
        )

    def _node(self, row: dict[str, Any]) -> dict[str, Any]:
        times = {key: stamp(row.pop(key)) for key in ("created_at", "updated_at")}
        return {
            "_id": str(row.pop("id")),
            "namespace": self.name,
            "runtime_namespace": self.name,
            **row,
            **times,
        }


class GraphView(V0View):
    scopes = {"GET": "read", "PUT": "run"}

    @extend_schema(operation_id="v0_graph_read", responses={200: schemas.GraphAnswer, **REFUSALS})
    def get(self, request: Request, ns: str, graph: str) -> Response:
        """A graph template as it is stored, with the verdict on it. Secrets are named, never shown."""
        return Response(graph_answer(self.graph(graph, _for_answer())))

    @extend_schema(
        operation_id="v0_graph_put",
        request=schemas.GraphBody,
        responses={201: schemas.GraphAnswer, **REFUSALS},
    )
    def put(self, request: Request, ns: str, graph: str) -> Response:
        """Make or change a graph. It is judged at once; the same template again makes no new version."""
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
        with transaction.atomic():  # a graph that is refused makes no namespace
            stored = worker_registration.put_graph(
                self.own_namespace, graph, template, body.secrets, triggers, self.caller
            )
        return Response(graph_answer(_for_answer().get(pk=stored.pk)), 201)


class GraphsView(V0View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="v0_graphs_list",
        parameters=[LIMIT, AFTER],
        responses={200: schemas.GraphsAnswer, **REFUSALS},
    )
    def get(self, request: Request, ns: str) -> Response:
        """The graph templates of a namespace, by name."""
        graphs, following = page(
            self, _for_answer().filter(namespace=self.namespace).order_by("name"), "name", None, 200
        )
        templates = [
            {
                "_id": str(graph.pk),
                "name": graph.name,
                "namespace": self.name,
                **graph_answer(graph),
            }
            for graph in graphs
        ]
        return Response(
            {
                "namespace": self.name,
                "count": len(templates),
                "templates": templates,
                "next": following,
            }
        )


class VersionsView(V0View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="v0_versions_list",
        parameters=[LIMIT, AFTER],
        responses={200: schemas.VersionsAnswer, **REFUSALS},
    )
    def get(self, request: Request, ns: str, graph: str) -> Response:
        """The versions of a graph, newest first. A run keeps the one that it started with."""
        found, limit = self.graph(graph), self.limit(200, 50)
        versions = (
            found.versions.select_related("created_by").defer("definition").order_by("-number")
        )
        if after := request.query_params.get("after"):
            versions = versions.filter(number__lt=whole(after, "after", 0, 2**31))
        rows = list(versions[: limit + 1])
        shown = [_version(version, found) for version in rows[:limit]]
        following = str(rows[limit - 1].number) if len(rows) > limit else None
        return Response(
            {
                "namespace": self.name,
                "graph_name": found.name,
                "count": len(shown),
                "versions": shown,
                "next": following,
            }
        )


class VersionView(V0View):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="v0_versions_read", responses={200: schemas.VersionAnswer, **REFUSALS}
    )
    def get(self, request: Request, ns: str, graph: str, version: str) -> Response:
        """One version with its template."""
        found = self.graph(graph)
        stored = found.versions.filter(
            number=whole(version, "version", 1, 2**31 - 1, "path")
        ).first()
        if stored is None:
            raise errors.NotFound(f"The graph {found.name!r} has no version {version}.")
        wrong = [problem["message"] for problem in stored.problems]
        return Response(
            {
                **_version(stored, found),
                **template_of(stored.definition),
                "validation_errors": wrong,
            }
        )


class RollbackView(V0View):
    scopes = {"POST": "run"}

    @extend_schema(
        operation_id="v0_graph_rollback",
        request=schemas.RollbackBody,
        responses={200: schemas.GraphAnswer, **REFUSALS},
    )
    def post(self, request: Request, ns: str, graph: str) -> Response:
        """Make a former version the current one; runs that are under way keep theirs."""
        stored = publish.roll_back(
            self.graph(graph), self.body(schemas.RollbackBody).version, self.caller
        )
        return Response(graph_answer(_for_answer().get(pk=stored.pk)))


class SecretView(V0View):
    scopes = {"PUT": "run", "DELETE": "run"}

    @extend_schema(
        operation_id="v0_secret_put",
        request=schemas.SecretBody,
        responses={200: schemas.SecretNamesAnswer, **REFUSALS},
    )
    def put(self, request: Request, ns: str, graph: str, secret: str) -> Response:
        """Set one secret of a graph. The answer names the graph's secrets; no answer shows their values."""
        return self._named(
            worker_registration.set_secret(
                self.graph(graph), secret, self.body(schemas.SecretBody).value
            )
        )

    @extend_schema(
        operation_id="v0_secret_delete", responses={200: schemas.SecretNamesAnswer, **REFUSALS}
    )
    def delete(self, request: Request, ns: str, graph: str, secret: str) -> Response:
        """Take one secret away."""
        return self._named(worker_registration.set_secret(self.graph(graph), secret, None))

    @staticmethod
    def _named(graph: Graph) -> Response:
        return Response(
            {"secrets": dict.fromkeys(graph.secrets.values_list("name", flat=True), True)}
        )


def _for_answer() -> Any:
    names = Prefetch("secrets", Secret.objects.only("graph_id", "name").order_by("name"))
    schedules = Prefetch(
        "triggers",
        CronTrigger.objects.only("graph_id", "expression", "time_zone", "error").order_by(
            "expression", "time_zone"
        ),
    )
    return Graph.objects.select_related("current").prefetch_related(names, schedules)


def graph_answer(graph: Graph) -> dict[str, Any]:
    """The wire form of a graph that was read with its secrets and triggers."""
    version = graph.current
    problems = version.problems if version else [{"message": "it has no definition"}]
    return {
        **template_of(version.definition if version else EMPTY),
        "secrets": {secret.name: True for secret in graph.secrets.all()},
        "triggers": [_trigger(trigger) for trigger in graph.triggers.all()],
        "created_at": stamp(graph.created_at),
        "updated_at": stamp(graph.updated_at),
        "validation_status": "INVALID" if problems else "VALID",
        "validation_errors": [_said(problem) for problem in problems],
        "version": version.number if version else 0,
    }


def _said(problem: dict[str, Any]) -> str:
    return (
        f"{problem['nodeId']}: {problem['message']}"
        if problem.get("nodeId")
        else problem["message"]
    )


def _trigger(trigger: CronTrigger) -> dict[str, Any]:
    zone = {} if trigger.time_zone == "UTC" else {"timezone": trigger.time_zone}
    wrong = {"error": trigger.error} if trigger.error else {}
    return {"type": "CRON", "value": {"expression": trigger.expression, **zone}, **wrong}


def _version(version: GraphVersion, graph: Graph) -> dict[str, Any]:
    return {
        "version": version.number,
        "current": version.pk == graph.current_id,
        "validation_status": "INVALID" if version.problems else "VALID",
        "checksum": version.checksum,
        "note": version.note,
        "created_at": stamp(version.created_at),
        "created_by": version.created_by.get_username() if version.created_by else None,
    }


def page(
    view: V0View, rows: Any, key: str, columns: tuple[str, ...] | None, most: int = 1000
) -> tuple[list[Any], str | None]:
    """A page of rows that are ordered by a unique text column, and the `after` of the next one."""
    limit = view.limit(most)
    if after := view.request.query_params.get("after"):
        rows = rows.filter(**{f"{key}__gt": after.replace("\x00", "")})
    found = list((rows.values_list(*columns) if columns else rows)[: limit + 1])
    if len(found) <= limit:
        return found, None
    last = found[limit - 1]
    return found[:limit], last[columns.index(key)] if columns else getattr(last, key)
