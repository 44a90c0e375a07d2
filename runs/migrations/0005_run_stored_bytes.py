from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("statemanager_runs", "0004_results_of_a_run"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="stored_bytes",
            field=models.PositiveBigIntegerField(
                db_default=0,
                default=0,
                help_text="Bytes of the inputs, outputs and files that its states stored.",
            ),
        ),
    ]
