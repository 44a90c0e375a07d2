"""Datasets over REST."""

from collections.abc import Iterator
from contextlib import contextmanager

from drf_spectacular.utils import extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from graphs.api.lookups import dataset_of, namespace_for
from graphs.api.pagination import OffsetPagination
from graphs.api.schema import REFUSALS
from graphs.api.serializers import (
    DatasetSerializer,
    UploadPreviewSerializer,
    UploadSerializer,
)
from graphs.api.viewsets import ViewSet
from graphs.definition.types import JsonObject
from graphs.models import Dataset
from graphs.services import dataset_preview, datasets, dialects
from graphs.services.dataset_files import Reading, Source


class DatasetViewSet(ViewSet):
    accepts_uploads = True
    lookup_url_kwarg = "dataset_id"
    pagination_class = OffsetPagination
    parser_classes = [MultiPartParser]
    scopes = {"list": "read", "create": "run", "retrieve": "read", "destroy": "run"}
    bodies = ("create",)

    tables: datasets.Tables  # of an upload, stored

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Store the files of an upload, unless it is a preview."""
        data = self.validated(UploadSerializer)
        if data["preview"]:
            yield
            return
        namespace = namespace_for(self.caller, data.get("namespace"), create=False)
        with datasets.stored(namespace, data["name"], *_sources(data)) as self.tables:
            yield

    def get_object(self) -> Dataset:
        return dataset_of(self.caller, self.kwargs["dataset_id"])

    @extend_schema(
        operation_id="datasets_list", responses={200: DatasetSerializer(many=True), **REFUSALS}
    )
    def list(self, request: Request) -> Response:
        """The datasets that the caller may see."""
        page = self.page(Dataset.objects.visible_to(self.caller).with_tables())
        return self.get_paginated_response(DatasetSerializer(page, many=True).data)

    @extend_schema(
        operation_id="datasets_upload",
        request=UploadSerializer,
        responses={200: UploadPreviewSerializer, 201: DatasetSerializer, **REFUSALS},
    )
    def create(self, request: Request) -> Response:
        """Upload a dataset. Its tables replace those of an existing dataset with the same name.

        If one of the files is refused, nothing is stored. With `preview`, the answer (200) has the
        delimiter and the first rows of each file, and nothing is stored either.
        """
        data = self.validated(UploadSerializer)
        if data["preview"]:
            tables = dataset_preview.previews(*_sources(data))
            return Response(UploadPreviewSerializer({"tables": tables}).data)
        dataset = datasets.replace_tables(
            namespace_for(self.caller, data.get("namespace"), create=False),
            data["name"],
            f"uploaded by {self.caller.label}",
            self.tables,
            self.caller,
        )
        return Response(DatasetSerializer(dataset).data, 201)

    @extend_schema(operation_id="datasets_read", responses={200: DatasetSerializer, **REFUSALS})
    def retrieve(self, request: Request, dataset_id: str) -> Response:
        """One dataset with its tables."""
        return Response(DatasetSerializer(self.get_object()).data)

    @extend_schema(operation_id="datasets_delete", responses={204: None, **REFUSALS})
    def destroy(self, request: Request, dataset_id: str) -> Response:
        """Delete a dataset with its files. Runs that used it stay."""
        dataset = self.get_object()
        self.caller.require("start", dataset.namespace_id)
        datasets.delete(dataset, self.caller)
        return Response(status=204)


def _sources(data: JsonObject) -> tuple[list[Source], Reading]:
    """The files of an upload, and how they are read."""
    files = [Source(file.name, file) for file in data["files"]]
    return files, Reading(data["encoding"], dialects.BY_NAME[data["delimiter"]])
