from django.db import migrations, models

from graphs.models.migrating import AddIndexConcurrently, RemoveIndexConcurrently

# States that were stored before keep their order, and count for their namespaces.
ORDER = """
    UPDATE statemanager_runs_state SET claim_at = coalesce(due_at, claim_at), namespace_key = (
        SELECT r.namespace_id FROM statemanager_runs_run r
        WHERE r.id = statemanager_runs_state.run_id
    )
    WHERE status IN ('CREATED', 'QUEUED')
"""


class Migration(migrations.Migration):
    atomic = False
    dependencies = [
        ("statemanager_runs", "0014_claim_order"),
    ]

    operations = [
        migrations.RunSQL(ORDER, migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="state",
            index=models.Index(
                condition=models.Q(
                    ("due_at__isnull", False),
                    ("paused", False),
                    ("status", "CREATED"),
                    ("worker_namespace", None),
                ),
                fields=["namespace_key", "node", "claim_at", "id"],
                name="sm_state_claimable",
            ),
        ),
        AddIndexConcurrently(
            model_name="state",
            index=models.Index(
                condition=models.Q(
                    ("due_at__isnull", False),
                    ("paused", False),
                    ("status", "CREATED"),
                    ("worker_namespace__isnull", False),
                ),
                fields=["worker_namespace", "namespace_key", "node", "claim_at", "id"],
                name="sm_state_claimable_by_worker",
            ),
        ),
        AddIndexConcurrently(
            model_name="state",
            index=models.Index(
                condition=models.Q(
                    ("claim_at", models.F("due_at")), ("paused", False), ("status", "CREATED")
                ),
                fields=["claim_at"],
                name="sm_state_delayed",
            ),
        ),
        RemoveIndexConcurrently(model_name="state", name="sm_state_ready"),
        RemoveIndexConcurrently(model_name="state", name="sm_state_ready_for_worker"),
    ]
