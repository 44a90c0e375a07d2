"""Authentication by API key, by login and by token. It sets `request.auth` to a `Caller`."""

from typing import TYPE_CHECKING

from django.contrib.auth.base_user import AbstractBaseUser
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import authentication, exceptions
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication as BaseJWTAuthentication
from rest_framework_simplejwt.exceptions import TokenError

from graphs.auth import api_keys
from graphs.auth.callers import Caller, caller_of_key, caller_of_user
from graphs.models import ApiKey

if TYPE_CHECKING:  # DRF imports this module before its views
    from drf_spectacular.openapi import AutoSchema

BEARER_KEY = "Bearer sm_"  # an API key in the place of a token


class ApiKeyAuthentication(authentication.BaseAuthentication):
    """`X-API-Key: sm_...`, or `Authorization: Bearer sm_...`."""

    def authenticate(self, request: Request) -> tuple[ApiKey, Caller] | None:
        text = request.headers.get("X-API-Key", "")
        bearer = request.headers.get("Authorization", "")
        if not text and bearer.startswith(BEARER_KEY):
            text = bearer.removeprefix("Bearer ")
        if not text:
            return None

        key = api_keys.find_key(text)
        if key is None:
            raise exceptions.AuthenticationFailed("Invalid API key")
        return key, caller_of_key(key)

    def authenticate_header(self, request: Request) -> str:
        return "ApiKey"


class SessionAuthentication(authentication.SessionAuthentication):
    """The admin's login, with CSRF protection."""

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser, Caller] | None:
        result = super().authenticate(request)
        if result is None:
            return None
        user = result[0]
        return user, caller_of_user(user)


class JWTAuthentication(BaseJWTAuthentication):
    """`Authorization: Bearer <access token>`. API keys as bearer tokens are left to the others."""

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser, Caller] | None:  # type: ignore[override]
        if request.headers.get("Authorization", "").startswith(BEARER_KEY):
            return None
        try:
            result = super().authenticate(request)
        except (TokenError, exceptions.AuthenticationFailed):
            message = "The token is not valid or has expired."
            raise exceptions.AuthenticationFailed(message) from None
        if result is None:
            return None
        user = result[0]
        return user, caller_of_user(user)


class _KeySchema(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: "AutoSchema") -> dict[str, str]:
        return {"type": "apiKey", "in": "header", "name": "X-API-Key"}


class _SessionSchema(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = SessionAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: "AutoSchema") -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


class _JwtSchema(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = JWTAuthentication
    name = "jwt"

    def get_security_definition(self, auto_schema: "AutoSchema") -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
