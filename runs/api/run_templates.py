"""Run templates over REST."""

from collections.abc import Iterable

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api import strict as serializers
from graphs.api.lookups import dataset_of, graph_of
from graphs.api.schema import REFUSALS
from graphs.api.serializers import AnyJson, LabelsField
from graphs.api.viewsets import ViewSet
from graphs.definition import errors, redaction
from graphs.definition.names import parse_id
from graphs.definition.payloads import when
from graphs.definition.types import JsonObject
from runs.actions import run_templates
from runs.api.lookups import NAMESPACE, run_of
from runs.api.serializers import StartedSerializer
from runs.models import RunTemplate

MAX_TEMPLATES = 1000
OPTIONAL_FIELDS = ("description", "inputs", "store", "labels", "workspace", "time_zone")
TEMPLATE_MEMBERS = ("name", "description", "labels", "workspace", "time_zone")
PROGRESS_MEMBERS = (
    "runs",
    "completed",
    "failed",
    "active",
    "percent_complete",
    "completed_nodes",
)


class TemplateBody(serializers.Serializer):
    """Either `run_id`, whose configuration is saved, or `graph_id` and what its runs start with.

    `schedule` is a cron expression.
    """

    name = serializers.CharField(max_length=200)
    description = serializers.CharField(required=False, allow_blank=True)
    run_id = serializers.CharField(max_length=200, required=False)
    graph_id = serializers.IdField(max_length=20, required=False)
    dataset_id = serializers.IdField(max_length=20, required=False)
    inputs = serializers.DictField(child=AnyJson(), required=False)
    store = serializers.DictField(child=AnyJson(), required=False)
    labels = LabelsField(required=False)
    workspace = serializers.CharField(max_length=200, required=False, allow_blank=True)
    schedule = serializers.CharField(max_length=200, required=False, allow_blank=True)
    time_zone = serializers.CharField(max_length=60, required=False)


class TemplateChangeBody(serializers.Serializer):
    """Members that are left out keep their values. `dataset_id` null removes the dataset."""

    name = serializers.CharField(max_length=200, required=False)
    description = serializers.CharField(required=False, allow_blank=True)
    dataset_id = serializers.CharField(max_length=20, required=False, allow_null=True)
    inputs = serializers.DictField(child=AnyJson(), required=False)
    store = serializers.DictField(child=AnyJson(), required=False)
    labels = LabelsField(required=False)
    workspace = serializers.CharField(max_length=200, required=False, allow_blank=True)
    schedule = serializers.CharField(max_length=200, required=False, allow_blank=True)
    time_zone = serializers.CharField(max_length=60, required=False)


class CloneBody(serializers.Serializer):
    name = serializers.CharField(max_length=200)
    inputs = serializers.DictField(child=AnyJson(), required=False)
    labels = LabelsField(required=False)


class LaunchBody(serializers.Serializer):
    run_id = serializers.CharField(max_length=200, required=False, allow_blank=False)
    inputs = serializers.DictField(child=AnyJson(), required=False)


class TemplateSerializer(serializers.Serializer):
    """A template and what its runs came to.

    `percent_complete` is the share of the graph's nodes that succeeded in any of its runs;
    `completed_nodes` names them.
    """

    id = serializers.CharField()
    name = serializers.CharField()
    namespace = serializers.CharField()
    description = serializers.CharField()
    graph_id = serializers.CharField()
    dataset_id = serializers.IntegerField(allow_null=True)
    inputs = AnyJson()
    labels = AnyJson()
    workspace = serializers.CharField()
    schedule = serializers.CharField()
    time_zone = serializers.CharField()
    next_at = serializers.DateTimeField(allow_null=True)
    runs = serializers.IntegerField()
    completed = serializers.IntegerField()
    failed = serializers.IntegerField()
    active = serializers.IntegerField()
    percent_complete = serializers.IntegerField()
    completed_nodes = serializers.ListField(child=serializers.CharField())

    def to_representation(self, template: RunTemplate) -> JsonObject:
        """The context holds the caller and each template's progress."""
        progress = self.context["progress"][template.pk]
        sees_payloads = self.context["caller"].can("payloads", template.namespace_id)
        return {
            "id": str(template.pk),
            "namespace": template.namespace.name,
            "graph_id": str(template.graph_id),
            "dataset_id": template.dataset_id,
            "inputs": redaction.shown(template.inputs, sees_payloads),
            "schedule": template.expression,
            "next_at": when(template.next_at),
            **{name: getattr(template, name) for name in TEMPLATE_MEMBERS},
            **{name: getattr(progress, name) for name in PROGRESS_MEMBERS},
        }


class TemplatesSerializer(serializers.Serializer):
    templates = TemplateSerializer(many=True)


class RunTemplateViewSet(ViewSet):
    lookup_url_kwarg = "template"
    scopes = {
        "list": "read",
        "create": "start",
        "retrieve": "read",
        "partial_update": "start",
        "destroy": "start",
        "launch": "start",
        "clone": "start",
    }
    bodies = ("create", "partial_update", "launch", "clone")
    queries = {"create": ("namespace",)}

    def get_queryset(self) -> QuerySet[RunTemplate]:
        templates = RunTemplate.objects.visible_to(self.caller)
        return templates.select_related(
            "namespace", "graph__namespace", "graph__current", "version", "dataset"
        )

    def get_object(self) -> RunTemplate:
        template_id = self.kwargs["template"]
        template = self.get_queryset().filter(pk=parse_id(template_id) or 0).first()
        if template is None:
            raise errors.NotFound(f"There is no template {template_id[:50]!r}.")
        return template

    @extend_schema(operation_id="templates_list", responses={200: TemplatesSerializer, **REFUSALS})
    def list(self, request: Request) -> Response:
        """The templates and what their runs came to."""
        ordered = self.get_queryset().order_by("namespace__name", "name")
        templates = ordered[:MAX_TEMPLATES]
        context = self._progress_of(templates)
        serializer = TemplateSerializer(templates, many=True, context=context)
        return Response({"templates": serializer.data})

    @extend_schema(
        operation_id="templates_save",
        parameters=[NAMESPACE],
        request=TemplateBody,
        responses={201: TemplateSerializer, **REFUSALS},
    )
    def create(self, request: Request) -> Response:
        """Save the configuration of a run, or a new one, under a name."""
        data = self.validated(TemplateBody)
        if ("run_id" in data) == ("graph_id" in data):
            raise errors.Malformed("Send either run_id or graph_id.")
        if "run_id" in data:
            run = run_of(self.caller, request, data["run_id"])
            description = data.get("description", "")
            template = run_templates.from_run(run, data["name"], self.caller, description)
        else:
            template = run_templates.save(self._new_template(data), self.caller)
        return Response(self._json(template), status=201)

    @extend_schema(operation_id="templates_read", responses={200: TemplateSerializer, **REFUSALS})
    def retrieve(self, request: Request, template: str) -> Response:
        """One template and what its runs came to."""
        return Response(self._json(self.get_object()))

    @extend_schema(
        operation_id="templates_change",
        request=TemplateChangeBody,
        responses={200: TemplateSerializer, **REFUSALS},
    )
    def partial_update(self, request: Request, template: str) -> Response:
        """Change a template. Runs that it has started stay as they are."""
        changes = self.validated(TemplateChangeBody)
        if "schedule" in changes:
            changes["expression"] = changes.pop("schedule")
        if "dataset_id" in changes:
            dataset_id = changes.pop("dataset_id")
            changes["dataset"] = dataset_of(self.caller, dataset_id) if dataset_id else None
        changed = run_templates.change(self.get_object(), self.caller, **changes)
        return Response(self._json(changed))

    @extend_schema(operation_id="templates_delete", responses={204: None, **REFUSALS})
    def destroy(self, request: Request, template: str) -> Response:
        """Delete a template; its runs stay."""
        run_templates.remove(self.get_object(), self.caller)
        return Response(status=204)

    @extend_schema(
        operation_id="templates_launch",
        request=LaunchBody,
        responses={200: StartedSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def launch(self, request: Request, template: str) -> Response:
        """Start a run of the template.

        Sending the same inputs with the same run_id again returns the same run.
        """
        data = self.validated(LaunchBody, may_be_empty=True)
        run = run_templates.launch(
            self.get_object(), self.caller, data.get("run_id", ""), data.get("inputs")
        )
        return Response(StartedSerializer(run).data)

    @extend_schema(
        operation_id="templates_clone",
        request=CloneBody,
        responses={201: TemplateSerializer, **REFUSALS},
    )
    @action(detail=True, methods=["post"])
    def clone(self, request: Request, template: str) -> Response:
        """Copy a template under another name; the values in the body replace its own."""
        changes = self.validated(CloneBody)
        name = changes.pop("name")
        copy = run_templates.clone(self.get_object(), name, self.caller, **changes)
        return Response(self._json(copy), status=201)

    def _new_template(self, data: JsonObject) -> RunTemplate:
        graph = graph_of(self.caller, data["graph_id"])
        dataset = dataset_of(self.caller, data["dataset_id"]) if data.get("dataset_id") else None
        return RunTemplate(
            name=data["name"],
            expression=data.get("schedule", ""),
            namespace=graph.namespace,
            graph=graph,
            dataset=dataset,
            created_by=self.caller.user,
            **{name: data[name] for name in OPTIONAL_FIELDS if name in data},
        )

    def _json(self, template: RunTemplate) -> JsonObject:
        return TemplateSerializer(template, context=self._progress_of([template])).data

    def _progress_of(self, templates: Iterable[RunTemplate]) -> JsonObject:
        """The context of `TemplateSerializer`."""
        return {"progress": run_templates.progress_of(templates), "caller": self.caller}
