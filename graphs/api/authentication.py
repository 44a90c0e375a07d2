"""Who is calling: an API key, a logged-in user, or a user by token. `request.auth` is a `graphs.auth.callers.Caller` either way."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import authentication, exceptions
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication as BaseJWTAuthentication
from rest_framework_simplejwt.exceptions import TokenError

from graphs.auth import api_keys
from graphs.auth.callers import Caller, caller_of_key, caller_of_user


class ApiKeyAuthentication(authentication.BaseAuthentication):
    """`X-API-Key: sm_…`, or the same as a bearer token."""

    def authenticate(self, request: Request) -> tuple[Any, Caller] | None:
        text = request.headers.get("X-API-Key", "")
        if not text and (bearer := request.headers.get("Authorization", "")).startswith(
            "Bearer sm_"
        ):
            text = bearer.removeprefix("Bearer ")
        if not text:
            return None
        if (key := api_keys.find_key(text)) is None:
            raise exceptions.AuthenticationFailed("Invalid API key")
        if wait := api_keys.admit(key):
            raise exceptions.Throttled(
                wait, f"This key may make {key.per_minute:,} requests a minute."
            )
        return key, caller_of_key(key)

    def authenticate_header(self, request: Request) -> str:
        return "ApiKey"


class SessionAuthentication(authentication.SessionAuthentication):
    """The admin's login, with CSRF protection."""

    def authenticate(self, request: Request) -> tuple[Any, Caller] | None:
        found = super().authenticate(request)
        return (found[0], caller_of_user(found[0])) if found else None


class _KeySchema(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "header", "name": "X-API-Key"}


class _SessionSchema(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = SessionAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


class JWTAuthentication(BaseJWTAuthentication):
    """`Authorization: Bearer <access token>`; API keys as bearer tokens are not its business."""

    def authenticate(self, request: Request) -> Any:
        if request.headers.get("Authorization", "").startswith("Bearer sm_"):
            return None
        try:
            found = super().authenticate(request)
        except (TokenError, exceptions.AuthenticationFailed):
            raise exceptions.AuthenticationFailed(
                "The token is not valid, or not any more."
            ) from None
        return (found[0], caller_of_user(found[0])) if found else None


class _JwtSchema(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = JWTAuthentication
    name = "jwt"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
