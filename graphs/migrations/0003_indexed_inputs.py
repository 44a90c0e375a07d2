import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("statemanager_graphs", "0002_namespace_quota"),
    ]

    operations = [
        migrations.CreateModel(
            name="IndexedInput",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("path", models.CharField(max_length=200)),
                (
                    "indexed_from",
                    models.BigIntegerField(
                        editable=False,
                        help_text=(
                            "Runs from this primary key on are indexed: 0 for all."
                            " Empty before the first."
                        ),
                        null=True,
                    ),
                ),
                (
                    "dropped",
                    models.BooleanField(
                        default=False,
                        editable=False,
                        help_text="No longer declared; its values are deleted.",
                    ),
                ),
                (
                    "graph",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="indexed_inputs",
                        to="statemanager_graphs.graph",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["path", "graph"], name="sm_input_by_path")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("dropped", False)),
                        fields=("graph", "path"),
                        name="sm_input_once_per_graph",
                    )
                ],
            },
        ),
    ]
