import django.core.serializers.json
import django.db.models.deletion
import django.utils.timezone
import runs.core.node_counts
import uuid
from django.conf import settings
from django.db import migrations, models


ON_POSTGRESQL = [
    # Ranges of paths (runs.core.paths) compare bytes; another collation puts "." and "/" elsewhere.
    'ALTER TABLE statemanager_runs_state ALTER COLUMN path TYPE varchar(1000) COLLATE "C"',
    # A batch rewrites its run's row and each of its states once: on the same page, if there is room.
    "ALTER TABLE statemanager_runs_run SET (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.02)",
    "ALTER TABLE statemanager_runs_state SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02,"
    " autovacuum_vacuum_insert_scale_factor = 0.1)",
]


def tune_postgresql(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for statement in ON_POSTGRESQL:
            schema_editor.execute(statement)


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('statemanager_graphs', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Cluster',
            fields=[
                ('name', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('host', models.CharField(max_length=255)),
                ('pid', models.PositiveIntegerField()),
                ('workers', models.PositiveIntegerField()),
                ('started_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('seen_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('restarts', models.PositiveIntegerField(default=0)),
                ('stopping', models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name='BulkOperation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('action', models.CharField(choices=[('delete', 'Delete'), ('archive', 'Archive'), ('unarchive', 'Unarchive'), ('rerun', 'Rerun'), ('retry', 'Retry'), ('cancel', 'Cancel'), ('pause', 'Pause'), ('resume', 'Resume'), ('label', 'Label'), ('set_status', 'Set Status'), ('export', 'Export')], max_length=10)),
                ('params', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('query', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('actor', models.CharField(max_length=150)),
                ('via', models.CharField(max_length=10)),
                ('idempotency_key', models.UUIDField(default=uuid.uuid4, help_text='Created with the form, so that a double click makes one operation.', unique=True)),
                ('status', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('done', 'Done'), ('stopped', 'Stopped')], default='queued', max_length=10)),
                ('stop_asked', models.BooleanField(default=False)),
                ('total', models.PositiveIntegerField(default=0)),
                ('done', models.PositiveIntegerField(default=0)),
                ('failed', models.PositiveIntegerField(default=0)),
                ('bound', models.BigIntegerField(default=0)),
                ('cursor', models.BigIntegerField(null=True)),
                ('file', models.CharField(blank=True, help_text='The file that an export wrote.', max_length=500)),
                ('error', models.TextField(blank=True, help_text='Why the operation could not continue.')),
                ('token', models.CharField(blank=True, max_length=32)),
                ('lease_expires_at', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('finished_at', models.DateTimeField(null=True)),
                ('key', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='statemanager_graphs.apikey')),
                ('user', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='BulkResult',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('run', models.BigIntegerField()),
                ('run_id', models.CharField(max_length=200)),
                ('name', models.CharField(blank=True, max_length=500)),
                ('done', models.BooleanField()),
                ('code', models.CharField(blank=True, max_length=20)),
                ('reason', models.TextField(blank=True)),
                ('created_run_id', models.CharField(blank=True, help_text='The id of the run that the action created.', max_length=200)),
                ('operation', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='results', to='statemanager_runs.bulkoperation')),
            ],
        ),
        migrations.CreateModel(
            name='ColumnChoice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('columns', models.JSONField(default=list)),
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('run_id', models.CharField(max_length=200)),
                ('name', models.CharField(blank=True, max_length=500)),
                ('root', models.BigIntegerField(help_text='For a rerun, the first run of its tree, which may have been deleted.', null=True)),
                ('username', models.CharField(blank=True, max_length=150)),
                ('workspace', models.CharField(blank=True, max_length=200)),
                ('session_id', models.CharField(blank=True, max_length=200)),
                ('purpose', models.TextField(blank=True)),
                ('sop', models.TextField(blank=True)),
                ('trigger', models.CharField(choices=[('api', 'Api'), ('admin', 'Admin'), ('command', 'Command'), ('schedule', 'Schedule'), ('rerun', 'Rerun'), ('import', 'Import'), ('template', 'Template')], default='api', max_length=10)),
                ('labels', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('initial_data', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('store', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('metadata', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('data', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('action_history', models.JSONField(blank=True, default=list, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('fingerprint', models.CharField(blank=True, max_length=64)),
                ('document_version', models.PositiveIntegerField(default=1, help_text='The `version` of the run document.')),
                ('heuristic_count_at_checkpoint', models.PositiveIntegerField(default=0)),
                ('experience_count_at_checkpoint', models.PositiveIntegerField(default=0)),
                ('rerun_count', models.PositiveIntegerField(default=0)),
                ('max_steps', models.PositiveIntegerField(blank=True, null=True)),
                ('origin', models.JSONField(blank=True, default=None, encoder=django.core.serializers.json.DjangoJSONEncoder, null=True)),
                ('reruns_left', models.PositiveSmallIntegerField(db_default=0, default=0, help_text='How often the run is rerun automatically if it fails.')),
                ('archived_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('status', models.CharField(choices=[('queued', 'queued'), ('running', 'running'), ('paused', 'paused'), ('completed', 'completed'), ('partial', 'partial'), ('failed', 'failed'), ('cancelled', 'cancelled')], default='queued', max_length=10)),
                ('paused', models.BooleanField(default=False, help_text='A person paused the run, so none of its states is claimed.')),
                ('stopping', models.BooleanField(default=False, help_text='The run is stopping, because of failures or its step limit.')),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('waiting_count', models.PositiveIntegerField(default=0)),
                ('errored_count', models.PositiveIntegerField(default=0)),
                ('retried_count', models.PositiveIntegerField(default=0)),
                ('cancelled_count', models.PositiveIntegerField(default=0)),
                ('emitted', models.PositiveBigIntegerField(default=0)),
                ('error_message', models.TextField(blank=True)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('revision', models.PositiveBigIntegerField(default=0)),
                ('pending_count', models.PositiveIntegerField(default=0)),
                ('started_count', models.PositiveIntegerField(default=0, help_text='States created to be started, including retries; limited by max_steps.')),
                ('success_count', models.PositiveIntegerField(default=0, help_text='States that are SUCCESS or PRUNED.')),
                ('current_step', models.PositiveIntegerField(default=0, help_text='The number of states that succeeded.')),
                ('log_count', models.PositiveIntegerField(default=0)),
                ('progress', models.PositiveSmallIntegerField(default=0)),
                ('current_node', models.CharField(blank=True, max_length=200)),
                ('node_counts', runs.core.node_counts.NodeCountsField(blank=True, default=dict)),
                ('dataset', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='runs', to='statemanager_graphs.dataset')),
                ('graph', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='statemanager_graphs.graph')),
                ('namespace', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='statemanager_graphs.namespace')),
                ('parent', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='reruns', to='statemanager_runs.run')),
                ('user', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('version', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='statemanager_graphs.graphversion')),
            ],
            options={
                'permissions': [('view_payload', 'Can see inputs, outputs and logs of runs'), ('rerun_run', 'Can rerun runs'), ('cancel_run', 'Can cancel, pause, resume, retry and answer runs'), ('set_status_run', 'Can set the status of runs by hand'), ('export_run', 'Can export runs')],
            },
        ),
        migrations.CreateModel(
            name='LogLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.UUIDField(null=True)),
                ('attempt', models.PositiveIntegerField(default=0)),
                ('identifier', models.CharField(blank=True, max_length=200)),
                ('level', models.CharField(default='info', max_length=10)),
                ('message', models.TextField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='logs', to='statemanager_runs.run')),
            ],
            options={
                'verbose_name': 'log line',
            },
        ),
        migrations.CreateModel(
            name='CheckpointWrite',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('ns', models.CharField(blank=True, max_length=1500)),
                ('checkpoint_id', models.CharField(max_length=100)),
                ('task_id', models.CharField(max_length=200)),
                ('task_path', models.TextField(blank=True)),
                ('idx', models.IntegerField()),
                ('channel', models.CharField(max_length=500)),
                ('type', models.CharField(max_length=50)),
                ('body', models.BinaryField(null=True)),
                ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='checkpoint_writes', to='statemanager_runs.run')),
            ],
        ),
        migrations.CreateModel(
            name='CheckpointBlob',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('ns', models.CharField(blank=True, max_length=1500)),
                ('channel', models.CharField(max_length=500)),
                ('version', models.CharField(max_length=200)),
                ('type', models.CharField(max_length=50)),
                ('body', models.BinaryField(null=True)),
                ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='checkpoint_blobs', to='statemanager_runs.run')),
            ],
        ),
        migrations.CreateModel(
            name='Checkpoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('ns', models.CharField(blank=True, max_length=1500)),
                ('checkpoint_id', models.CharField(max_length=100)),
                ('parent_checkpoint_id', models.CharField(blank=True, max_length=100)),
                ('type', models.CharField(max_length=50)),
                ('body', models.BinaryField()),
                ('metadata', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('versions', models.JSONField(blank=True, default=dict, help_text='The version of each channel, as text; blobs have the values.')),
                ('pending', models.CharField(blank=True, default='', help_text='The nodes that run next, separated by commas.', max_length=500)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='checkpoints', to='statemanager_runs.run')),
            ],
        ),
        migrations.CreateModel(
            name='Artifact',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.UUIDField()),
                ('identifier', models.CharField(max_length=200)),
                ('kind', models.CharField(choices=[('file', 'file'), ('table', 'table')], default='file', max_length=5)),
                ('name', models.CharField(max_length=255)),
                ('file', models.CharField(max_length=500, unique=True)),
                ('size', models.BigIntegerField()),
                ('checksum', models.CharField(max_length=64)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='artifacts', to='statemanager_runs.run')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='RunTemplate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200)),
                ('description', models.TextField(blank=True)),
                ('inputs', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('store', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('labels', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('workspace', models.CharField(blank=True, max_length=200)),
                ('expression', models.CharField(blank=True, help_text='minute hour day-of-month month day-of-week; leave empty for no schedule', max_length=200, verbose_name='schedule')),
                ('time_zone', models.CharField(default='UTC', help_text='An IANA time zone, such as Europe/Berlin.', max_length=60)),
                ('next_at', models.DateTimeField(editable=False, null=True)),
                ('last_fired_at', models.DateTimeField(editable=False, null=True)),
                ('error', models.TextField(blank=True, editable=False)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('dataset', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='templates', to='statemanager_graphs.dataset')),
                ('graph', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='templates', to='statemanager_graphs.graph')),
                ('namespace', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='templates', to='statemanager_graphs.namespace')),
                ('version', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='statemanager_graphs.graphversion')),
            ],
            options={
                'verbose_name': 'run template',
                'ordering': ['namespace__name', 'name'],
            },
        ),
        migrations.AddField(
            model_name='run',
            name='template',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='runs', to='statemanager_runs.runtemplate'),
        ),
        migrations.CreateModel(
            name='SavedView',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100)),
                ('query', models.CharField(blank=True, help_text='The query string of the run list.', max_length=4000)),
                ('shared', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['name', 'id'],
            },
        ),
        migrations.CreateModel(
            name='State',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('parent', models.UUIDField(help_text='The state whose outputs led to this one; empty for roots.', null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('retry_count', models.PositiveIntegerField(default=0)),
                ('joined', models.BooleanField(default=False)),
                ('reused', models.UUIDField(help_text='The state of another run that this one was copied from.', null=True)),
                ('fanout_id', models.CharField(blank=True, db_default='', default='', help_text='The name that the caller gave to a manual retry.', max_length=200)),
                ('watched', models.BooleanField(default=False, help_text='Joins wait for states of this node.')),
                ('identifier', models.CharField(max_length=200)),
                ('node', models.CharField(max_length=200)),
                ('path', models.CharField(blank=True, max_length=1000)),
                ('inputs', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder, help_text='If null, the inputs of the first sibling of the fan-out.', null=True)),
                ('status', models.CharField(choices=[('CREATED', 'CREATED'), ('QUEUED', 'QUEUED'), ('SUCCESS', 'SUCCESS'), ('ERRORED', 'ERRORED'), ('RETRY_CREATED', 'RETRY_CREATED'), ('NEXT_CREATED_ERROR', 'NEXT_CREATED_ERROR'), ('PRUNED', 'PRUNED'), ('CANCELLED', 'CANCELLED'), ('TIMEDOUT', 'TIMEDOUT')], default='CREATED', max_length=18)),
                ('attempt', models.PositiveIntegerField(default=0, help_text='The fence, which rises with each claim.')),
                ('lost_leases', models.PositiveSmallIntegerField(default=0, help_text='The number of leases that the state lost.')),
                ('paused', models.BooleanField(default=False)),
                ('due_at', models.DateTimeField(default=django.utils.timezone.now, null=True)),
                ('lease_expires_at', models.DateTimeField(blank=True, null=True)),
                ('worker', models.CharField(blank=True, max_length=100)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('progress', models.FloatField(default=0)),
                ('emitted', models.PositiveBigIntegerField(default=0)),
                ('outputs', models.JSONField(blank=True, default=None, encoder=django.core.serializers.json.DjangoJSONEncoder, null=True)),
                ('chosen', models.JSONField(blank=True, default=None, encoder=django.core.serializers.json.DjangoJSONEncoder, null=True)),
                ('error', models.TextField(blank=True)),
                ('waiting_for', models.JSONField(blank=True, default=None, encoder=django.core.serializers.json.DjangoJSONEncoder, null=True)),
                ('answer', models.JSONField(blank=True, default=None, encoder=django.core.serializers.json.DjangoJSONEncoder, null=True)),
                ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='states', to='statemanager_runs.run')),
                ('worker_namespace', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='statemanager_graphs.namespace')),
            ],
        ),
        migrations.CreateModel(
            name='Tombstone',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('run_id', models.CharField(max_length=200)),
                ('run', models.BigIntegerField()),
                ('at', models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
                ('actor', models.CharField(max_length=150)),
                ('files', models.BooleanField(default=True)),
                ('namespace', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='statemanager_graphs.namespace')),
            ],
        ),
        migrations.CreateModel(
            name='ToolResult',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=1500)),
                ('digest', models.CharField(max_length=64)),
                ('result', models.JSONField(blank=True, default=None, encoder=django.core.serializers.json.DjangoJSONEncoder, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tool_results', to='statemanager_runs.run')),
            ],
            options={
                'verbose_name': 'tool result',
            },
        ),
        migrations.CreateModel(
            name='AuditEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(default=django.utils.timezone.now)),
                ('actor', models.CharField(max_length=150)),
                ('via', models.CharField(choices=[('page', 'Page'), ('api', 'Api'), ('command', 'Command'), ('system', 'System')], max_length=10)),
                ('action', models.CharField(max_length=20)),
                ('run', models.BigIntegerField(null=True)),
                ('run_id', models.CharField(blank=True, max_length=200)),
                ('detail', models.TextField(blank=True)),
                ('operation', models.BigIntegerField(null=True)),
                ('namespace', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='statemanager_graphs.namespace')),
            ],
            options={
                'verbose_name_plural': 'audit entries',
                'indexes': [models.Index(fields=['run', 'id'], name='sm_audit_of_run')],
            },
        ),
        migrations.AddIndex(
            model_name='bulkoperation',
            index=models.Index(condition=models.Q(('status__in', ['queued', 'running'])), fields=['id'], name='sm_operation_to_do'),
        ),
        migrations.AddConstraint(
            model_name='bulkoperation',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['queued', 'running', 'done', 'stopped'])), name='sm_operation_status_known'),
        ),
        migrations.AddIndex(
            model_name='bulkresult',
            index=models.Index(condition=models.Q(('done', False)), fields=['operation', 'id'], name='sm_result_failed'),
        ),
        migrations.AddConstraint(
            model_name='bulkresult',
            constraint=models.UniqueConstraint(fields=('operation', 'run'), name='sm_result_once'),
        ),
        migrations.AddIndex(
            model_name='logline',
            index=models.Index(fields=['run', 'id'], name='sm_log_of_run'),
        ),
        migrations.AddConstraint(
            model_name='logline',
            constraint=models.CheckConstraint(condition=models.Q(('level__in', ['debug', 'info', 'warning', 'error'])), name='sm_log_level_known'),
        ),
        migrations.AddConstraint(
            model_name='checkpointwrite',
            constraint=models.UniqueConstraint(fields=('run', 'ns', 'checkpoint_id', 'task_id', 'idx'), name='sm_checkpoint_write_once'),
        ),
        migrations.AddConstraint(
            model_name='checkpointblob',
            constraint=models.UniqueConstraint(fields=('run', 'ns', 'channel', 'version'), name='sm_checkpoint_blob_once'),
        ),
        migrations.AddConstraint(
            model_name='checkpoint',
            constraint=models.UniqueConstraint(fields=('run', 'ns', 'checkpoint_id'), name='sm_checkpoint_once'),
        ),
        migrations.AddConstraint(
            model_name='artifact',
            constraint=models.CheckConstraint(condition=models.Q(('size__gte', 0)), name='sm_artifact_size_positive'),
        ),
        migrations.AddConstraint(
            model_name='artifact',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='sm_artifact_named'),
        ),
        migrations.AddIndex(
            model_name='runtemplate',
            index=models.Index(condition=models.Q(('next_at__isnull', False)), fields=['next_at'], name='sm_template_due'),
        ),
        migrations.AddConstraint(
            model_name='runtemplate',
            constraint=models.UniqueConstraint(fields=('namespace', 'name'), name='sm_template_once_per_namespace'),
        ),
        migrations.AddConstraint(
            model_name='runtemplate',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='sm_template_named'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(fields=['run_id'], name='sm_run_by_thread'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('archived_at', None)), fields=['-created_at', '-id'], name='sm_run_newest'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('archived_at__isnull', False)), fields=['-created_at', '-id'], name='sm_run_archived'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(fields=['namespace', '-created_at', '-id'], name='sm_run_newest_of_namespace'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('archived_at', None)), fields=['status', '-created_at', '-id'], name='sm_run_by_status'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(fields=['graph', '-id'], name='sm_run_of_graph'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(fields=['username', '-created_at', '-id'], name='sm_run_of_user'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(fields=['workspace', '-created_at', '-id'], name='sm_run_of_workspace'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('reruns_left__gt', 0), ('status__in', ('failed', 'partial'))), fields=['id'], name='sm_run_to_rerun'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('template__isnull', False)), fields=['template', '-id'], name='sm_run_of_template'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('root__isnull', False)), fields=['root'], name='sm_run_of_tree'),
        ),
        migrations.AddConstraint(
            model_name='run',
            constraint=models.UniqueConstraint(fields=('namespace', 'run_id'), name='sm_run_id_once_per_namespace'),
        ),
        migrations.AddConstraint(
            model_name='run',
            constraint=models.CheckConstraint(condition=models.Q(('run_id', ''), _negated=True), name='sm_run_named'),
        ),
        migrations.AddConstraint(
            model_name='run',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ('queued', 'running', 'paused', 'completed', 'partial', 'failed', 'cancelled'))), name='sm_run_status_known'),
        ),
        migrations.AddConstraint(
            model_name='run',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', False), ('status__in', ('completed', 'partial', 'failed', 'cancelled'))), models.Q(('finished_at', None), ('status__in', ('queued', 'running', 'paused'))), _connector='OR'), name='sm_run_finished_when_ended'),
        ),
        migrations.AddConstraint(
            model_name='run',
            constraint=models.CheckConstraint(condition=models.Q(('progress__lte', 100)), name='sm_run_progress_percent'),
        ),
        migrations.AddConstraint(
            model_name='run',
            constraint=models.CheckConstraint(condition=models.Q(('archived_at', None), ('status__in', ('completed', 'partial', 'failed', 'cancelled')), _connector='OR'), name='sm_run_archived_when_ended'),
        ),
        migrations.AddConstraint(
            model_name='run',
            constraint=models.CheckConstraint(condition=models.Q(('waiting_count__lte', models.F('pending_count'))), name='sm_run_waiting_are_pending'),
        ),
        migrations.AddConstraint(
            model_name='savedview',
            constraint=models.UniqueConstraint(fields=('owner', 'name'), name='sm_view_once_per_owner'),
        ),
        migrations.AddConstraint(
            model_name='savedview',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='sm_view_named'),
        ),
        migrations.AddIndex(
            model_name='state',
            index=models.Index(fields=['run', 'identifier', 'path'], name='sm_state_of_run'),
        ),
        migrations.AddIndex(
            model_name='state',
            index=models.Index(condition=models.Q(('status__in', ('CREATED', 'QUEUED')), ('watched', True)), fields=['run', 'identifier', 'path'], name='sm_state_unfinished'),
        ),
        migrations.AddIndex(
            model_name='state',
            index=models.Index(condition=models.Q(('due_at__isnull', False), ('paused', False), ('status', 'CREATED'), ('worker_namespace', None)), fields=['node', 'due_at', 'id'], name='sm_state_ready'),
        ),
        migrations.AddIndex(
            model_name='state',
            index=models.Index(condition=models.Q(('due_at__isnull', False), ('lost_leases__gt', 0), ('paused', False), ('status', 'CREATED'), ('worker_namespace', None)), fields=['node', 'due_at', 'id'], name='sm_state_quarantined'),
        ),
        migrations.AddIndex(
            model_name='state',
            index=models.Index(condition=models.Q(('due_at__isnull', False), ('paused', False), ('status', 'CREATED'), ('worker_namespace__isnull', False)), fields=['worker_namespace', 'node', 'due_at', 'id'], name='sm_state_ready_for_worker'),
        ),
        migrations.AddIndex(
            model_name='state',
            index=models.Index(condition=models.Q(('status', 'QUEUED')), fields=['lease_expires_at'], name='sm_state_leased'),
        ),
        migrations.AddConstraint(
            model_name='state',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ('CREATED', 'QUEUED', 'SUCCESS', 'ERRORED', 'RETRY_CREATED', 'NEXT_CREATED_ERROR', 'PRUNED', 'CANCELLED', 'TIMEDOUT'))), name='sm_state_status_known'),
        ),
        migrations.AddConstraint(
            model_name='state',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', False), ('status__in', ('SUCCESS', 'ERRORED', 'RETRY_CREATED', 'NEXT_CREATED_ERROR', 'PRUNED', 'CANCELLED', 'TIMEDOUT'))), models.Q(('finished_at', None), ('status__in', ('CREATED', 'QUEUED'))), _connector='OR'), name='sm_state_finished_when_final'),
        ),
        migrations.AddConstraint(
            model_name='state',
            constraint=models.CheckConstraint(condition=models.Q(('progress__gte', 0), ('progress__lte', 1)), name='sm_state_progress_share'),
        ),
        migrations.AddConstraint(
            model_name='state',
            constraint=models.UniqueConstraint(condition=models.Q(('joined', True)), fields=('run', 'identifier', 'path'), name='sm_join_once'),
        ),
        migrations.AddConstraint(
            model_name='state',
            constraint=models.UniqueConstraint(condition=models.Q(('fanout_id', ''), _negated=True), fields=('run', 'identifier', 'fanout_id'), name='sm_manual_retry_once'),
        ),
        migrations.AddIndex(
            model_name='tombstone',
            index=models.Index(condition=models.Q(('files', True)), fields=['id'], name='sm_tombstone_with_files'),
        ),
        migrations.AddConstraint(
            model_name='tombstone',
            constraint=models.UniqueConstraint(fields=('namespace', 'run_id'), name='sm_tombstone_once'),
        ),
        migrations.AddConstraint(
            model_name='toolresult',
            constraint=models.UniqueConstraint(fields=('run', 'digest'), name='sm_tool_result_once'),
        ),
        migrations.RunPython(tune_postgresql, migrations.RunPython.noop),
    ]
