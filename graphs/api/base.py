"""The base of all our API views."""

from rest_framework.views import APIView

from graphs.access import Caller
from graphs.api.permissions import Scoped


class View(APIView):
    """`scopes` says which scope each method needs; a method without one is refused."""

    permission_classes = [Scoped]
    scopes: dict[str, str] = {}

    @property
    def caller(self) -> Caller:
        assert isinstance(self.request.auth, Caller)
        return self.request.auth
