"""The Django app of runs."""

from django.apps import AppConfig


class RunsConfig(AppConfig):
    """Lets the graphs app, which doesn't know runs, ask whether a dataset is in use."""

    name = "runs"
    label = "statemanager_runs"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Runs"

    def ready(self) -> None:
        from graphs.services import datasets, secrets
        from runs.models import NotificationRule, Run

        datasets.in_use.append(
            lambda dataset: Run.objects.active().filter(dataset=dataset).exists()
        )
        secrets.register(NotificationRule)
