"""Below `/admin/run-manager/`."""

from django.urls import path, register_converter

from runs.manager import views


class Verb:
    """What a run can be asked to do."""

    regex = "|".join(views.VERBS)

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(Verb, "verb")
urlpatterns = [
    path("", views.run_list, name="run_manager"),
    path("delete/", views.delete_runs, name="run_manager_delete"),
    path("run/<int:pk>/<verb:verb>/", views.steer_run, name="run_manager_steer"),
    path("rerun/<int:pk>/", views.rerun_run, name="run_manager_rerun"),
]
