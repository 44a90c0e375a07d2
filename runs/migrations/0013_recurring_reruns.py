import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("statemanager_graphs", "0003_indexed_inputs"),
        ("statemanager_runs", "0012_queue"),
    ]

    operations = [
        migrations.CreateModel(
            name="RecurringRerun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "expression",
                    models.CharField(
                        help_text="Five fields: minute hour day-of-month month day-of-week.",
                        max_length=200,
                    ),
                ),
                (
                    "time_zone",
                    models.CharField(
                        default="UTC",
                        help_text="An IANA time zone, such as Europe/Berlin.",
                        max_length=60,
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("next_at", models.DateTimeField(editable=False, null=True)),
                ("last_fired_at", models.DateTimeField(editable=False, null=True)),
                (
                    "missed",
                    models.PositiveIntegerField(
                        default=0,
                        editable=False,
                        help_text="How many due times passed while no supervisor was running.",
                    ),
                ),
                ("error", models.TextField(blank=True, editable=False)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                ("inputs", models.JSONField(blank=True, null=True)),
                ("newest", models.BooleanField(default=False)),
                ("author", models.CharField(help_text="Who asked for it.", max_length=150)),
                (
                    "namespace",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="statemanager_graphs.namespace",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="recurring_reruns",
                        to="statemanager_runs.run",
                    ),
                ),
            ],
            options={
                "verbose_name": "recurring rerun",
                "indexes": [
                    models.Index(
                        condition=models.Q(("enabled", True), ("next_at__isnull", False)),
                        fields=["next_at"],
                        name="sm_recurring_due",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("run", "expression", "time_zone"), name="sm_recurring_once_per_run"
                    )
                ],
            },
        ),
    ]
