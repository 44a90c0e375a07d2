import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("statemanager_graphs", "0003_indexed_inputs"),
        ("statemanager_runs", "0011_run_inputs"),
    ]

    operations = [
        migrations.CreateModel(
            name="QueueEntry",
            fields=[
                (
                    "run",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="queue_entry",
                        serialize=False,
                        to="statemanager_runs.run",
                    ),
                ),
                (
                    "namespace",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="statemanager_graphs.namespace",
                    ),
                ),
                (
                    "available_at",
                    models.DateTimeField(
                        help_text="When a program may take the run. Empty if none may any more.",
                        null=True,
                    ),
                ),
                ("claim", models.PositiveIntegerField(default=0)),
                (
                    "holder",
                    models.CharField(
                        blank=True,
                        help_text="The program that took the run last.",
                        max_length=200,
                    ),
                ),
                ("claimed_at", models.DateTimeField(null=True)),
                ("lease_seconds", models.FloatField(default=0)),
            ],
            options={
                "verbose_name": "queue entry",
                "verbose_name_plural": "queue entries",
                "indexes": [
                    models.Index(
                        condition=models.Q(("available_at__isnull", False)),
                        fields=["available_at", "run"],
                        name="sm_queue_to_claim",
                    )
                ],
            },
        ),
    ]
