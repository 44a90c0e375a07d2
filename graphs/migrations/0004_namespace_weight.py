from django.core import validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("statemanager_graphs", "0003_indexed_inputs"),
    ]

    operations = [
        migrations.AddField(
            model_name="namespace",
            name="weight",
            field=models.PositiveSmallIntegerField(
                db_default=1,
                default=1,
                help_text=(
                    "Its share of the workers while several namespaces have work: one of weight 3 "
                    "gets three turns for each turn of one of weight 1."
                ),
                validators=[validators.MinValueValidator(1), validators.MaxValueValidator(100)],
            ),
        ),
    ]
