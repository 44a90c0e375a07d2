"""The requests that an API key may make per minute."""

from typing import TYPE_CHECKING

from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from graphs.auth import api_keys
from graphs.models import ApiKey

if TYPE_CHECKING:  # DRF imports this module before its views
    from rest_framework.views import APIView


class KeyThrottle(BaseThrottle):
    """Counts in the database, because DRF's own throttles count per process and aren't exact."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        """Raises Throttled, which names the limit, once a key has used it up."""
        key = request.user
        if not isinstance(key, ApiKey):
            return True
        wait_seconds = api_keys.admit(key)
        if wait_seconds:
            raise Throttled(
                wait_seconds, f"This key may make {key.per_minute:,} requests a minute."
            )
        return True
