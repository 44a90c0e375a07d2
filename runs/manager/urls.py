"""Below `/admin/run-manager/`."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from runs.manager import exporting, views


class Verb(StringConverter):
    """What a run can be asked to do."""

    regex = "|".join(views.VERBS)


class BulkVerb(StringConverter):
    """What can be done to several runs at once, beside deleting them."""

    regex = "|".join(views.BULK)


class Export(StringConverter):
    """The forms of an exported file."""

    regex = "|".join(exporting.FORMATS)


register_converter(Export, "export")
register_converter(Verb, "verb")
register_converter(BulkVerb, "bulk")
urlpatterns = [
    path("", views.run_list, name="run_manager"),
    path("export.<export:form>", views.export_runs, name="run_manager_export"),
    path("delete/", views.delete_runs, name="run_manager_delete"),
    path("selected/<bulk:verb>/", lambda request, verb: views.BULK[verb](request), name="run_manager_bulk"),
    path("run/<int:pk>/<verb:verb>/", views.steer_run, name="run_manager_steer"),
    path("rerun/<int:pk>/", views.rerun_run, name="run_manager_rerun"),
]
