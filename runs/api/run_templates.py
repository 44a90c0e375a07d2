"""Run templates over REST."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.base import View
from graphs.api.lookups import dataset_of, graph_of
from graphs.api.serializers import AnyJson
from graphs.api.views import REFUSALS
from graphs.definition import errors, redaction
from graphs.definition.names import parse_id
from graphs.definition.payloads import when
from runs.actions import run_templates
from runs.api.lookups import run_of
from runs.api.serializers import StartedShape, started_shape
from runs.models import RunTemplate


class TemplateBody(serializers.Serializer):
    """Either `run_id`, whose configuration is saved, or `graph_id` and what its runs are given. `schedule` is a cron expression."""

    name = serializers.CharField(max_length=200)
    description = serializers.CharField(required=False, allow_blank=True)
    run_id = serializers.CharField(max_length=200, required=False)
    graph_id = serializers.CharField(max_length=20, required=False)
    dataset_id = serializers.CharField(max_length=20, required=False)
    inputs = serializers.DictField(child=AnyJson(), required=False)
    store = serializers.DictField(child=AnyJson(), required=False)
    labels = serializers.DictField(
        child=serializers.CharField(max_length=500, allow_blank=True), required=False
    )
    workspace = serializers.CharField(max_length=200, required=False, allow_blank=True)
    schedule = serializers.CharField(max_length=200, required=False, allow_blank=True)
    time_zone = serializers.CharField(max_length=60, required=False)


class CloneBody(serializers.Serializer):
    name = serializers.CharField(max_length=200)
    inputs = serializers.DictField(child=AnyJson(), required=False)
    labels = serializers.DictField(
        child=serializers.CharField(max_length=500, allow_blank=True), required=False
    )


class LaunchBody(serializers.Serializer):
    run_id = serializers.CharField(max_length=200, required=False, allow_blank=False)
    inputs = serializers.DictField(child=AnyJson(), required=False)


class TemplateShape(serializers.Serializer):
    """`percent_complete` is the share of the graph's nodes that succeeded in any of its runs, which `completed_nodes` names."""

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


class TemplatesShape(serializers.Serializer):
    templates = TemplateShape(many=True)


class TemplateViewBase(View):
    """What the views of templates share."""

    def visible(self) -> Any:
        found = RunTemplate.objects.visible_to(self.caller)
        return found.select_related(
            "namespace", "graph__namespace", "graph__current", "version", "dataset"
        )

    def template(self, text: str) -> RunTemplate:
        found: RunTemplate | None = self.visible().filter(pk=parse_id(text) or 0).first()
        if found is None:
            raise errors.NotFound(f"There is no template {text[:50]!r}.")
        return found

    def shape(
        self, template: RunTemplate, progress: run_templates.Progress | None = None
    ) -> dict[str, Any]:
        seen = progress or run_templates.progress_of([template])[template.pk]
        names = ("name", "description", "labels", "workspace", "time_zone")
        counts = ("runs", "completed", "failed", "active", "percent_complete", "completed_nodes")
        allowed = self.caller.can("payloads", template.namespace_id)
        return {
            "id": str(template.pk), "namespace": template.namespace.name, "graph_id": str(template.graph_id), "dataset_id": template.dataset_id,
            "inputs": redaction.shown(template.inputs, allowed), "schedule": template.expression, "next_at": when(template.next_at),
            **{name: getattr(template, name) for name in names}, **{name: getattr(seen, name) for name in counts},
        }  # fmt: skip


class TemplatesView(TemplateViewBase):
    scopes = {"GET": "read", "POST": "start"}

    @extend_schema(operation_id="templates_list", responses={200: TemplatesShape, **REFUSALS})
    def get(self, request: Request) -> Response:
        """The templates with what their runs came to."""
        found = list(self.visible().order_by("namespace__name", "name")[:1000])
        progress = run_templates.progress_of(found)
        return Response({"templates": [self.shape(each, progress[each.pk]) for each in found]})

    @extend_schema(
        operation_id="templates_save",
        request=TemplateBody,
        responses={201: TemplateShape, **REFUSALS},
    )
    def post(self, request: Request) -> Response:
        """Save the configuration of a run, or a new one, under a name."""
        body = TemplateBody(data=request.data)
        body.is_valid(raise_exception=True)
        asked = dict(body.validated_data)
        if ("run_id" in asked) == ("graph_id" in asked):
            raise errors.Malformed("Give either the run_id or the graph_id.")
        if "run_id" in asked:
            run = run_of(self.caller, request, asked["run_id"])
            made = run_templates.from_run(
                run, asked["name"], self.caller, asked.get("description", "")
            )
        else:
            made = run_templates.save(self._new(asked), self.caller)
        return Response(self.shape(made), status=201)

    def _new(self, asked: dict[str, Any]) -> RunTemplate:
        graph = graph_of(self.caller, asked["graph_id"])
        dataset = dataset_of(self.caller, asked["dataset_id"]) if asked.get("dataset_id") else None
        kept = {
            name: asked[name]
            for name in ("description", "inputs", "store", "labels", "workspace", "time_zone")
            if name in asked
        }
        values = {
            "namespace": graph.namespace,
            "graph": graph,
            "dataset": dataset,
            "created_by": self.caller.user,
        }
        return RunTemplate(
            name=asked["name"], expression=asked.get("schedule", ""), **values, **kept
        )


class TemplateView(TemplateViewBase):
    scopes = {"GET": "read", "DELETE": "start"}

    @extend_schema(operation_id="templates_read", responses={200: TemplateShape, **REFUSALS})
    def get(self, request: Request, template: str) -> Response:
        """One template with what its runs came to."""
        return Response(self.shape(self.template(template)))

    @extend_schema(operation_id="templates_delete", responses={204: None, **REFUSALS})
    def delete(self, request: Request, template: str) -> Response:
        """Forget a template; its runs stay."""
        run_templates.remove(self.template(template), self.caller)
        return Response(status=204)


class LaunchView(TemplateViewBase):
    scopes = {"POST": "start"}

    @extend_schema(
        operation_id="templates_launch",
        request=LaunchBody,
        responses={200: StartedShape, **REFUSALS},
    )
    def post(self, request: Request, template: str) -> Response:
        """Start a run of the template; the same run_id with the same inputs again gives the same run."""
        body = LaunchBody(data=request.data or {})
        body.is_valid(raise_exception=True)
        run = run_templates.launch(
            self.template(template),
            self.caller,
            body.validated_data.get("run_id", ""),
            body.validated_data.get("inputs"),
        )
        return Response(started_shape(run))


class CloneView(TemplateViewBase):
    scopes = {"POST": "start"}

    @extend_schema(
        operation_id="templates_clone",
        request=CloneBody,
        responses={201: TemplateShape, **REFUSALS},
    )
    def post(self, request: Request, template: str) -> Response:
        """The same under another name, with these values instead."""
        body = CloneBody(data=request.data)
        body.is_valid(raise_exception=True)
        changes = dict(body.validated_data)
        return Response(
            self.shape(
                run_templates.clone(
                    self.template(template), changes.pop("name"), self.caller, **changes
                )
            ),
            status=201,
        )
