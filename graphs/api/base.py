"""The base of all our API views."""

from typing import Any

from rest_framework.views import APIView

from graphs.api.idempotency import repeatable
from graphs.api.permissions import Scoped
from graphs.auth.callers import Caller


class View(APIView):
    """`scopes` says which scope each method needs; a method without one is refused. Every `post` takes an Idempotency-Key."""

    permission_classes = [Scoped]
    scopes: dict[str, str] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "post" in cls.__dict__:
            cls.post = repeatable(cls.__dict__["post"])  # type: ignore[attr-defined]

    @property
    def caller(self) -> Caller:
        assert isinstance(self.request.auth, Caller)
        return self.request.auth
