"""The URLs of FlowView: `/admin/flow/`, and `/admin/graphs/graph/<id>/flow/` for one graph."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from graphs.editor import datasets, draft_edits, home, json_view, pages, versions


class ExportFormat(StringConverter):
    regex = "|".join(name.replace(".", r"\.") for name in json_view.EXPORTS)


register_converter(ExportFormat, "flow_export")
GRAPH = "graphs/graph/<int:pk>/flow/"
urlpatterns = [
    path("flow/", home.home, name="flow_home"),
    path("flow/new/", home.new_graph, name="flow_new"),
    path("flow/datasets/", datasets.dataset_list, name="flow_datasets"),
    path("flow/datasets/<int:pk>/", datasets.dataset_page, name="flow_dataset"),
    path("flow/datasets/<int:pk>/delete", datasets.delete_dataset, name="flow_dataset_delete"),
    path(GRAPH, pages.flow_page, name="flow"),
    path(f"{GRAPH}edit", draft_edits.edit, name="flow_edit"),
    path(f"{GRAPH}problems", pages.problems, name="flow_problems"),
    path(f"{GRAPH}check", json_view.check, name="flow_check"),
    path(f"{GRAPH}publish/", versions.publish, name="flow_publish"),
    path(f"{GRAPH}history/", versions.history, name="flow_history"),
    path(f"{GRAPH}history/<int:number>/restore", versions.restore, name="flow_restore"),
    path(f"{GRAPH}copy", versions.copy, name="flow_copy"),
    path(f"{GRAPH}graph.<flow_export:form>", json_view.export, name="flow_export"),
]
