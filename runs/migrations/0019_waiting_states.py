from django.db import migrations, models

from graphs.models.migrating import AddIndexConcurrently


class Migration(migrations.Migration):
    atomic = False
    dependencies = [
        ("statemanager_runs", "0018_answer_deadlines"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="state",
            index=models.Index(
                condition=models.Q(("waiting_for__isnull", False)),
                fields=["id", "namespace_key"],
                name="sm_state_asking",
            ),
        ),
    ]
