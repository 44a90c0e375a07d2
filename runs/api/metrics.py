"""The metrics of runs and graphs as the API shows them. Durations are in seconds."""

from graphs.api import strict as serializers


class NodeMetricsSerializer(serializers.Serializer):
    """The states of a node by outcome, and the durations of its attempts."""

    identifier = serializers.CharField()
    states = serializers.IntegerField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    retried = serializers.IntegerField()
    failure_rate = serializers.FloatField(help_text="From 0 to 1.")
    mean_seconds = serializers.FloatField(allow_null=True)
    p50_seconds = serializers.FloatField(allow_null=True)
    p95_seconds = serializers.FloatField(allow_null=True)


class RunMetricsSerializer(serializers.Serializer):
    """Nodes are counted among the first 50,000 states of the run."""

    duration_seconds = serializers.FloatField(allow_null=True)
    states = serializers.IntegerField()
    failed = serializers.IntegerField()
    failure_rate = serializers.FloatField(help_text="From 0 to 1.")
    nodes = NodeMetricsSerializer(many=True)


class GraphMetricsSerializer(serializers.Serializer):
    """Of the newest 100 runs; nodes are counted in those of them that have 50,000 states."""

    runs = serializers.IntegerField()
    failed = serializers.IntegerField()
    failure_rate = serializers.FloatField(help_text="From 0 to 1.")
    p50_seconds = serializers.FloatField(allow_null=True)
    p95_seconds = serializers.FloatField(allow_null=True)
    nodes = NodeMetricsSerializer(many=True)
