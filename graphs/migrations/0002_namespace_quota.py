from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("statemanager_graphs", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="namespace",
            name="max_stored_bytes",
            field=models.PositiveBigIntegerField(
                blank=True,
                help_text=(
                    "How many bytes its runs may store in all. Beyond that, no run starts until "
                    "others are deleted. Empty means no limit."
                ),
                null=True,
                verbose_name="most stored bytes",
            ),
        ),
    ]
