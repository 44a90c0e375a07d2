"""Namespaces and their registered nodes under `/v0`."""

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.v0 import node_schemas as schemas
from graphs.api.v0.base import REFUSALS, V0ViewSet
from graphs.api.v0.pagination import NamePagination
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from graphs.models import Namespace, RegisteredNode
from graphs.services import worker_registration


class NamespaceViewSet(V0ViewSet):
    pagination_class = NamePagination
    scopes = {"list": "read"}

    @extend_schema(
        operation_id="v0_namespaces", responses={200: schemas.NamespacesAnswer, **REFUSALS}
    )
    def list(self, request: Request) -> Response:
        """The namespaces that have registered nodes, by name, among those that the caller sees."""
        executor = RegisteredNode.Executor.WORKER
        namespaces = Namespace.objects.filter(nodes__executor=executor).distinct()
        if self.caller.namespaces is not None:
            namespaces = namespaces.filter(pk__in=self.caller.namespaces)
        names = [namespace.name for namespace in self.page(namespaces)]
        return self.get_paginated_response({"namespaces": names, "count": len(names)})


class NodeViewSet(V0ViewSet):
    pagination_class = NamePagination
    scopes = {"list": "read", "register": "worker"}

    @extend_schema(
        operation_id="v0_nodes_register",
        request=schemas.RegisterBody,
        responses={200: schemas.RegisteredAnswer, **REFUSALS},
    )
    def register(self, request: Request, ns: str) -> Response:
        """Register or change the nodes of a runtime; all of them or none."""
        body = self.body(schemas.RegisterBody)
        nodes = [node.model_dump() for node in body.nodes]
        with transaction.atomic():  # nodes that are refused create no namespace
            worker_registration.register(self.own_namespace, body.runtime_name, nodes, self.caller)
        return Response({"runtime_name": body.runtime_name, "registered_nodes": nodes})

    @extend_schema(operation_id="v0_nodes_list", responses={200: schemas.NodesAnswer, **REFUSALS})
    def list(self, request: Request, ns: str) -> Response:
        """The registered nodes of a namespace, by name."""
        page = self.page(RegisteredNode.objects.filter(namespace=self.namespace))
        nodes = [self._node(node) for node in page]
        return self.get_paginated_response(
            {"namespace": self.name, "count": len(nodes), "nodes": nodes}
        )

    def _node(self, node: RegisteredNode) -> JsonObject:
        return {
            "_id": str(node.pk),
            "namespace": self.name,
            "runtime_namespace": self.name,
            "name": node.name,
            "runtime_name": node.runtime_name,
            "inputs_schema": node.inputs_schema,
            "outputs_schema": node.outputs_schema,
            "secrets": node.secrets,
            "created_at": when(node.created_at),
            "updated_at": when(node.updated_at),
        }
