"""The use of a graph's concurrency limit as the API shows it."""

from graphs.api import strict as serializers


class ActiveRunSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    run_id = serializers.CharField()


class KeyUseSerializer(serializers.Serializer):
    """The runs with one value of the key: at most 5 of the active ones are named."""

    key = serializers.CharField(
        allow_blank=True, help_text="Hidden from callers who may not see payloads."
    )
    active = serializers.IntegerField()
    waiting = serializers.IntegerField()
    waiting_since = serializers.DateTimeField(allow_null=True)
    active_runs = ActiveRunSerializer(many=True)


class ConcurrencySerializer(serializers.Serializer):
    """The limit of the current version, and the 50 keys with most runs that wait.

    The first 20,000 active runs of the graph are counted.
    """

    limit = serializers.IntegerField(allow_null=True, help_text="Null without a limit.")
    key = serializers.CharField(allow_blank=True)
    at_limit = serializers.CharField(allow_blank=True)
    keys = KeyUseSerializer(many=True)
    more = serializers.BooleanField(help_text="Whether there are more keys.")
