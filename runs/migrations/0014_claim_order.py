from django.db import migrations, models
from django.db.models.functions import Now
from django.utils import timezone


class Migration(migrations.Migration):
    dependencies = [
        ("statemanager_graphs", "0004_namespace_weight"),
        ("statemanager_runs", "0013_recurring_reruns"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="priority",
            field=models.SmallIntegerField(
                db_default=0,
                default=0,
                help_text=(
                    "From -100 to 100: which of the namespace's ready states are executed first."
                ),
            ),
        ),
        migrations.AddField(
            model_name="state",
            name="claim_at",
            field=models.DateTimeField(
                db_default=Now(),
                default=timezone.now,
                help_text=(
                    "Its place among the ready states of its namespace: runs.engine.priority."
                ),
            ),
        ),
        migrations.AddField(
            model_name="state",
            name="namespace_key",
            field=models.BigIntegerField(
                db_default=0,
                default=0,
                help_text=(
                    "The id of its run's namespace, for claims; 0 if an old version stored it."
                ),
            ),
        ),
    ]
