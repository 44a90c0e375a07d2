import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Graph',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                'ordering': ['namespace__name', 'name'],
            },
        ),
        migrations.CreateModel(
            name='GraphVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('definition', models.JSONField()),
                ('checksum', models.CharField(max_length=64)),
                ('note', models.CharField(blank=True, max_length=500)),
                ('problems', models.JSONField(blank=True, default=list, help_text="Why the version can't run, such as nodes that are not registered.")),
                ('by_template', models.BooleanField(default=False, help_text='Stored as a graph template: external nodes need all inputs of their schemas.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL)),
                ('graph', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='statemanager_graphs.graph')),
            ],
            options={
                'ordering': ['graph_id', '-number'],
            },
        ),
        migrations.AddField(
            model_name='graph',
            name='current',
            field=models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='statemanager_graphs.graphversion'),
        ),
        migrations.CreateModel(
            name='IdempotencyKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('caller', models.CharField(max_length=200)),
                ('key', models.CharField(max_length=255)),
                ('digest', models.CharField(help_text='A digest of the method, path, query and body.', max_length=64)),
                ('rights', models.CharField(blank=True, help_text="A digest of the caller's rights at the time of the response.", max_length=64)),
                ('run_id', models.CharField(blank=True, help_text='The run in the response, which is erased when the run is deleted.', max_length=200)),
                ('location', models.CharField(blank=True, max_length=500)),
                ('status', models.PositiveSmallIntegerField(null=True)),
                ('answer', models.TextField(blank=True, help_text='The response as JSON; empty if it was too large to store.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'verbose_name': 'idempotency key',
                'indexes': [models.Index(fields=['created_at'], name='sm_idempotency_key_by_age'), models.Index(condition=models.Q(('run_id', ''), _negated=True), fields=['run_id'], name='sm_idempotency_key_of_run')],
                'constraints': [models.UniqueConstraint(fields=('caller', 'key'), name='sm_idempotency_key_once')],
            },
        ),
        migrations.CreateModel(
            name='Namespace',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                'ordering': ['name'],
                'constraints': [models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='sm_namespace_named')],
            },
        ),
        migrations.AddField(
            model_name='graph',
            name='namespace',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='graphs', to='statemanager_graphs.namespace'),
        ),
        migrations.CreateModel(
            name='Dataset',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200)),
                ('source', models.CharField(blank=True, max_length=500)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('namespace', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='datasets', to='statemanager_graphs.namespace')),
            ],
            options={
                'ordering': ['namespace__name', 'name'],
            },
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(blank=True, max_length=100)),
                ('prefix', models.CharField(editable=False, max_length=16, unique=True)),
                ('digest', models.CharField(editable=False, max_length=64)),
                ('scope', models.CharField(choices=[('read', 'Read'), ('run', 'Run'), ('worker', 'Worker'), ('admin', 'Admin')], default='run', max_length=10)),
                ('all_namespaces', models.BooleanField(default=False, help_text='The key opens every namespace, including those made later.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('per_minute', models.PositiveIntegerField(blank=True, help_text='The limit for requests with this key. Leave it empty for no limit.', null=True, verbose_name='requests a minute')),
                ('minute', models.DateTimeField(editable=False, null=True)),
                ('minute_count', models.PositiveIntegerField(default=0, editable=False)),
                ('last_used_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('created_by', models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL)),
                ('namespaces', models.ManyToManyField(blank=True, help_text='The namespaces that the key opens, unless it opens all of them.', to='statemanager_graphs.namespace')),
            ],
            options={
                'verbose_name': 'API key',
            },
        ),
        migrations.CreateModel(
            name='NamespaceMembership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.CharField(choices=[('viewer', 'Viewer: sees runs without their payloads'), ('reader', 'Reader: sees and exports everything'), ('operator', 'Operator: also starts, reruns, cancels and answers'), ('manager', 'Manager: also deletes and sets statuses')], default='viewer', max_length=10)),
                ('group', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='auth.group')),
                ('namespace', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to='statemanager_graphs.namespace')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'membership',
                'ordering': ['namespace__name', 'id'],
            },
        ),
        migrations.CreateModel(
            name='RegisteredNode',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200)),
                ('executor', models.CharField(choices=[('builtin', 'Builtin'), ('worker', 'Worker')], max_length=10)),
                ('description', models.TextField(blank=True)),
                ('inputs_schema', models.JSONField(default=dict)),
                ('outputs_schema', models.JSONField(default=dict)),
                ('secrets', models.JSONField(default=list)),
                ('runtime_name', models.CharField(blank=True, max_length=200)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('namespace', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='nodes', to='statemanager_graphs.namespace')),
            ],
            options={
                'verbose_name': 'registered node',
                'ordering': ['namespace__name', 'name'],
            },
        ),
        migrations.CreateModel(
            name='Secret',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200)),
                ('token', models.TextField(editable=False)),
                ('former', models.TextField(blank=True, editable=False, help_text='The previous token. It is redacted, too, because a worker may still report it.')),
                ('by_template', models.BooleanField(default=False, editable=False, help_text='Part of a graph template, so that the next template may remove it.')),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('graph', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='secrets', to='statemanager_graphs.graph')),
            ],
            options={
                'ordering': ['graph_id', 'name'],
            },
        ),
        migrations.CreateModel(
            name='DatasetTable',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200)),
                ('file', models.CharField(max_length=500)),
                ('format', models.CharField(choices=[('csv', 'Csv'), ('jsonl', 'Jsonl')], max_length=5)),
                ('columns', models.JSONField(default=list)),
                ('rows', models.BigIntegerField(default=0)),
                ('size', models.BigIntegerField(default=0)),
                ('checksum', models.CharField(max_length=64)),
                ('dataset', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tables', to='statemanager_graphs.dataset')),
            ],
            options={
                'ordering': ['dataset_id', 'name'],
                'constraints': [models.UniqueConstraint(fields=('dataset', 'name'), name='sm_table_once_per_dataset'), models.CheckConstraint(condition=models.Q(('format__in', ['csv', 'jsonl'])), name='sm_table_format_known'), models.CheckConstraint(condition=models.Q(('rows__gte', 0), ('size__gte', 0)), name='sm_table_counts_positive'), models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='sm_table_named')],
            },
        ),
        migrations.CreateModel(
            name='DraftChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('revision', models.PositiveIntegerField()),
                ('definition', models.JSONField()),
                ('message', models.CharField(help_text='What the change did.', max_length=300)),
                ('back_to', models.PositiveIntegerField(help_text='The revision to which an undo or a redo went.', null=True)),
                ('redo', models.BooleanField(default=False)),
                ('renamed', models.JSONField(help_text='The old and the new id of the node, if the change renamed one.', null=True)),
                ('version', models.PositiveIntegerField(default=0, help_text='The number of the version that was current at that time; 0 if there was none.')),
                ('published', models.PositiveIntegerField(help_text='The number of the version as which the change was published. From then on the draft follows newer versions.', null=True)),
                ('made_by', models.CharField(max_length=200)),
                ('made_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('graph', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='draft_changes', to='statemanager_graphs.graph')),
            ],
            options={
                'ordering': ['graph_id', '-revision'],
                'constraints': [models.UniqueConstraint(fields=('graph', 'revision'), name='sm_draft_revision_once')],
            },
        ),
        migrations.CreateModel(
            name='CronTrigger',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('expression', models.CharField(help_text='Five fields: minute hour day-of-month month day-of-week.', max_length=200)),
                ('time_zone', models.CharField(default='UTC', help_text='An IANA time zone, such as Europe/Berlin.', max_length=60)),
                ('enabled', models.BooleanField(default=True)),
                ('by_template', models.BooleanField(default=False, editable=False, help_text='Part of a graph template, so that the next template may remove it.')),
                ('next_at', models.DateTimeField(editable=False, null=True)),
                ('last_fired_at', models.DateTimeField(editable=False, null=True)),
                ('missed', models.PositiveIntegerField(default=0, editable=False, help_text='How many due times passed while no supervisor was running.')),
                ('error', models.TextField(blank=True, editable=False)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('graph', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='triggers', to='statemanager_graphs.graph')),
            ],
            options={
                'verbose_name': 'cron trigger',
                'ordering': ['graph_id', 'expression'],
                'indexes': [models.Index(condition=models.Q(('enabled', True), ('next_at__isnull', False)), fields=['next_at'], name='sm_trigger_due')],
                'constraints': [models.UniqueConstraint(fields=('graph', 'expression', 'time_zone'), name='sm_trigger_once_per_graph')],
            },
        ),
        migrations.AddConstraint(
            model_name='graphversion',
            constraint=models.UniqueConstraint(fields=('graph', 'number'), name='sm_version_number_once'),
        ),
        migrations.AddConstraint(
            model_name='graphversion',
            constraint=models.CheckConstraint(condition=models.Q(('number__gte', 1)), name='sm_version_number_positive'),
        ),
        migrations.AddConstraint(
            model_name='graph',
            constraint=models.UniqueConstraint(fields=('namespace', 'name'), name='sm_graph_once_per_namespace'),
        ),
        migrations.AddConstraint(
            model_name='graph',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='sm_graph_named'),
        ),
        migrations.AddConstraint(
            model_name='dataset',
            constraint=models.UniqueConstraint(fields=('namespace', 'name'), name='sm_dataset_once_per_namespace'),
        ),
        migrations.AddConstraint(
            model_name='dataset',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='sm_dataset_named'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.CheckConstraint(condition=models.Q(('scope__in', ['read', 'run', 'worker', 'admin'])), name='sm_apikey_scope_known'),
        ),
        migrations.AddConstraint(
            model_name='namespacemembership',
            constraint=models.CheckConstraint(condition=models.Q(('user', None), ('group', None), _connector='XOR'), name='sm_membership_of_user_or_group'),
        ),
        migrations.AddConstraint(
            model_name='namespacemembership',
            constraint=models.CheckConstraint(condition=models.Q(('role__in', ['viewer', 'reader', 'operator', 'manager'])), name='sm_membership_role_known'),
        ),
        migrations.AddConstraint(
            model_name='namespacemembership',
            constraint=models.UniqueConstraint(condition=models.Q(('group', None)), fields=('namespace', 'user'), name='sm_membership_once_per_user'),
        ),
        migrations.AddConstraint(
            model_name='namespacemembership',
            constraint=models.UniqueConstraint(condition=models.Q(('user', None)), fields=('namespace', 'group'), name='sm_membership_once_per_group'),
        ),
        migrations.AddConstraint(
            model_name='registerednode',
            constraint=models.UniqueConstraint(fields=('namespace', 'name'), name='sm_node_once_per_namespace'),
        ),
        migrations.AddConstraint(
            model_name='registerednode',
            constraint=models.CheckConstraint(condition=models.Q(('executor__in', ['builtin', 'worker'])), name='sm_node_executor_known'),
        ),
        migrations.AddConstraint(
            model_name='registerednode',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='sm_node_named'),
        ),
        migrations.AddConstraint(
            model_name='secret',
            constraint=models.UniqueConstraint(fields=('graph', 'name'), name='sm_secret_once_per_graph'),
        ),
        migrations.AddConstraint(
            model_name='secret',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='sm_secret_named'),
        ),
    ]
