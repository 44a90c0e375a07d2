from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("statemanager_runs", "0003_shared_views_in_namespaces"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="bulkresult",
            index=models.Index(fields=["run"], name="sm_result_of_run"),
        ),
    ]
