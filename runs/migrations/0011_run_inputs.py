import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("statemanager_graphs", "0003_indexed_inputs"),
        ("statemanager_runs", "0010_runs_of_a_session"),
    ]

    operations = [
        migrations.CreateModel(
            name="RunInput",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("digest", models.UUIDField(null=True)),
                (
                    "input",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="statemanager_graphs.indexedinput",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="statemanager_runs.run",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["input", "digest", "run"], name="sm_run_input_by_value")
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("run", "input"), name="sm_run_input_once")
                ],
            },
        ),
    ]
