from django.db import migrations, models

from graphs.models.migrating import AddIndexConcurrently


class Migration(migrations.Migration):
    atomic = False
    dependencies = [
        ("statemanager_runs", "0009_run_notes"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                condition=models.Q(("session_id", ""), _negated=True),
                fields=["session_id", "created_at", "id"],
                name="sm_run_of_session",
            ),
        ),
    ]
