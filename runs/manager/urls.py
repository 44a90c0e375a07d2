"""The URLs of the Run Manager, below `/admin/run-manager/`."""

from collections.abc import Iterable

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from runs.actions import export
from runs.actions.bulk import ACTIONS
from runs.langgraph import edits
from runs.manager import (
    answer,
    bulk,
    checkpoints,
    choices,
    compare,
    dashboard,
    files,
    graph_metrics,
    health,
    inbox,
    list_page,
    logs,
    notes,
    operations,
    recurring,
    rerun,
    run_actions,
    run_page,
    run_tabs,
    run_templates,
    schedules,
    session,
)


def _register_choices(name: str, choices: Iterable[str]) -> None:
    """Register a path converter that matches one of these texts."""
    converter = type(name, (StringConverter,), {"regex": "|".join(choices)})
    register_converter(converter, name)


_register_choices("export", export.FORMATS)
_register_choices("verb", run_actions.VERBS)
_register_choices("action", ACTIONS)
_register_choices("checkpoint_verb", edits.VERBS)
_register_choices("tab", run_tabs.TABS)
_register_choices("choice", choices.KINDS)
_register_choices("lines", ("log", "ndjson"))
_register_choices("template_verb", ("clone", "schedule", "delete"))
_register_choices("operation_verb", ("stop", "retry"))
_register_choices("recurring_verb", recurring.VERBS)
_register_choices("schedule_verb", schedules.VERBS)
urlpatterns = [
    path("", list_page.run_list, name="run_manager"),
    path("live", list_page.live_rows, name="run_manager_live"),
    path("export.<export:form>", list_page.export_runs, name="run_manager_export"),
    path("choices/<choice:kind>/", choices.choices, name="run_manager_choices"),
    path("columns/", list_page.choose_columns, name="run_manager_columns"),
    path("views/", list_page.views, name="run_manager_view"),
    path("views/<int:pk>/default/", list_page.choose_default, name="run_manager_view_default"),
    path("views/<int:pk>/delete/", list_page.delete_view, name="run_manager_view_delete"),
    path("bulk/<action:action>/", bulk.ask, name="run_manager_bulk"),
    path("operations/", operations.operation_list, name="run_manager_operations"),
    path("operations/<int:pk>/", operations.operation_page, name="run_manager_operation"),
    path(
        "operations/<int:pk>/<operation_verb:verb>/",
        operations.act_on_operation,
        name="run_manager_operation_action",
    ),
    path("operations/<int:pk>/report.csv", operations.report, name="run_manager_report"),
    path("operations/<int:pk>/file", operations.exported_file, name="run_manager_file"),
    path("run/<int:pk>/<verb:verb>/", run_actions.act_on_run, name="run_manager_action"),
    path("session/", session.session_page, name="run_session"),
    path("inbox/", inbox.inbox_page, name="run_inbox"),
    path("inbox/answer/", inbox.answer_questions, name="run_inbox_answer"),
    path("find/", run_page.find_run, name="run_find"),
    path("run/<int:pk>/", run_page.run_page, name="run_page"),
    path("run/<int:pk>/<tab:tab>/", run_page.run_page, name="run_tab"),
    path("run/<int:pk>/head", run_page.run_head, name="run_head"),
    path("run/<int:pk>/files/<int:artifact>/", files.run_file, name="run_file"),
    path(
        "run/<int:pk>/checkpoints/<int:checkpoint>/<checkpoint_verb:verb>/",
        checkpoints.act_on_checkpoint,
        name="run_checkpoint",
    ),
    path("run/<int:pk>/bundle.json", run_page.download_bundle, name="run_bundle"),
    path("run/<int:pk>/logs/more", logs.more_lines, name="run_logs_more"),
    path("run/<int:pk>/lines.<lines:form>", logs.download_logs, name="run_logs_file"),
    path("run/<int:pk>/states/<uuid:state>/answer/", answer.answer, name="run_answer"),
    path("run/<int:pk>/notes/add/", notes.add_note, name="run_note"),
    path("run/<int:pk>/notes/<int:note>/delete/", notes.delete_note, name="run_note_delete"),
    path("schedules/reruns/", recurring.recurring_list, name="run_recurring"),
    path(
        "schedules/reruns/<int:pk>/<recurring_verb:verb>/",
        recurring.act_on_recurring,
        name="run_recurring_action",
    ),
    path("schedules/", schedules.schedule_list, name="run_schedules"),
    path("schedules/templates/", schedules.scheduled_templates, name="run_scheduled_templates"),
    path("schedules/new/", schedules.new_schedule, name="run_schedule_new"),
    path("schedules/times/", schedules.schedule_times, name="run_schedule_times"),
    path("schedules/<int:pk>/", schedules.edit_schedule, name="run_schedule"),
    path(
        "schedules/<int:pk>/<schedule_verb:verb>/",
        schedules.act_on_schedule,
        name="run_schedule_action",
    ),
    path("rerun/<int:pk>/", rerun.rerun_run, name="run_manager_rerun"),
    path("run/<int:pk>/template/", run_templates.new_template, name="run_template_new"),
    path("templates/", run_templates.template_list, name="run_templates"),
    path("templates/<int:pk>/", run_templates.template_page, name="run_template"),
    path("templates/<int:pk>/edit/", run_templates.edit_template, name="run_template_edit"),
    path("templates/<int:pk>/launch/", run_templates.launch_template, name="run_template_launch"),
    path(
        "templates/<int:pk>/<template_verb:verb>/",
        run_templates.change_template,
        name="run_template_change",
    ),
    path("graph/<int:pk>/metrics/", graph_metrics.graph_metrics, name="graph_metrics"),
    path("health/", health.health, name="run_health"),
    path("dashboard", dashboard.dashboard, name="run_dashboard"),
    path("compare/", compare.compare_page, name="run_manager_compare"),
]
