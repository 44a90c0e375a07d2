from django.db import migrations, models

from graphs.models.migrating import AddIndexConcurrently


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("statemanager_runs", "0006_installation_and_start_error"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(fields=["name", "-created_at", "-id"], name="sm_run_by_name"),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(fields=["finished_at", "id"], name="sm_run_by_finish"),
        ),
    ]
