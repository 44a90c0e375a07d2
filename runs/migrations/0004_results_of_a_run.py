from django.db import migrations, models

from graphs.models.migrating import AddIndexConcurrently


class Migration(migrations.Migration):
    atomic = False
    dependencies = [
        ("statemanager_runs", "0003_shared_views_in_namespaces"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="bulkresult",
            index=models.Index(fields=["run"], name="sm_result_of_run"),
        ),
    ]
