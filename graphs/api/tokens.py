"""JSON Web Tokens (RFC 7519, RFC 6750).

`POST /token` issues an access and a refresh token for a username and a password, `/token/refresh`
new ones for a refresh token, which is used up by that. `/token/revoke` ends a refresh token.
"""

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.signals import user_logged_in
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import InvalidToken
from rest_framework_simplejwt.serializers import (
    TokenBlacklistSerializer,
    TokenObtainPairSerializer,
    TokenObtainSerializer,
    TokenRefreshSerializer,
)
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken
from rest_framework_simplejwt.views import (
    TokenBlacklistView,
    TokenObtainPairView,
    TokenRefreshView,
)

from graphs.api.schema import REFUSALS
from graphs.api.strict import CharField, KnownMembers
from graphs.auth import acts, refresh_tokens, second_factor
from graphs.auth.callers import caller_named
from graphs.auth.tokens import RefreshToken, claims_of


class CredentialsSerializer(KnownMembers, TokenObtainPairSerializer):
    code = CharField(
        required=False,
        write_only=True,
        max_length=20,
        help_text="A code of the second factor, for accounts that have one.",
    )

    default_error_messages: ClassVar = {
        **TokenObtainPairSerializer.default_error_messages,
        "code": "This account has a second factor: send a new `code` of it.",
        "no_second_factor": "This site asks for a second factor. Set it up in the admin.",
    }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in (self.username_field, "password"):
            self.fields[name] = CharField(write_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        TokenObtainSerializer.validate(self, attrs)  # the password
        self._check_code(self.user, attrs.get("code", ""))  # type: ignore[arg-type]
        refresh = RefreshToken.for_user(self.user)
        return {"refresh": str(refresh), "access": str(refresh.access_token)}

    def _check_code(self, user: AbstractUser, code: str) -> None:
        if second_factor.is_set_up(user):
            if second_factor.verify(user, code) is None:
                raise AuthenticationFailed(self.error_messages["code"], "code")
        elif settings.SECOND_FACTOR_REQUIRED:
            raise AuthenticationFailed(self.error_messages["no_second_factor"], "no_second_factor")


class RefreshSerializer(KnownMembers, TokenRefreshSerializer):
    token_class = RefreshToken
    refresh = CharField()


class RevokeSerializer(KnownMembers, TokenBlacklistSerializer):
    token_class = RefreshToken
    refresh = CharField(write_only=True)


class TokenView(TokenObtainPairView):
    serializer_class = CredentialsSerializer

    @extend_schema(
        operation_id="token",
        request=CredentialsSerializer,
        responses={200: TokenObtainPairSerializer, **REFUSALS},
        auth=[],
    )
    def post(self, request: Request, *args: str, **kwargs: str) -> Response:
        """An access token (15 minutes) and a refresh token (a day) for a username and password.

        After five wrong passwords for an account from one address, it is refused with 429 for a
        minute, then for two, and so on.
        """
        answer = super().post(request, *args, **kwargs)
        username = str(dict(request.data)["username"])
        user = get_user_model().objects.get_by_natural_key(username)
        # The login is logged and ends the count of failures.
        user_logged_in.send(sender=type(user), request=request._request, user=user)
        return answer

    def get_serializer_context(self) -> dict[str, object]:
        """With Django's request, on which django-axes notes that a login is refused."""
        request = self.request._request
        data = self.request.data
        username = data.get("username") if isinstance(data, dict) else None
        request.axes_credentials = {"username": username}  # type: ignore[attr-defined]
        return {**super().get_serializer_context(), "request": request}


class RefreshView(TokenRefreshView):
    serializer_class = RefreshSerializer

    @extend_schema(
        operation_id="token_refresh",
        request=TokenRefreshSerializer,
        responses={200: TokenRefreshSerializer, **REFUSALS},
        auth=[],
    )
    def post(self, request: Request, *args: str, **kwargs: str) -> Response:
        """A new access token and a new refresh token for a refresh token, which ends with that.

        One that comes a second time may have been stolen: the tokens that followed from it end,
        too (RFC 9700, section 4.14).
        """
        try:
            return super().post(request, *args, **kwargs)
        except InvalidToken:
            _end_family(request.data)
            raise


class RevokeView(TokenBlacklistView):
    serializer_class = RevokeSerializer

    @extend_schema(
        operation_id="token_revoke",
        request=TokenBlacklistSerializer,
        responses={200: TokenBlacklistSerializer, **REFUSALS},
        auth=[],
    )
    def post(self, request: Request, *args: str, **kwargs: str) -> Response:
        """End a refresh token. Access tokens that were issued for it last 15 minutes at most."""
        with transaction.atomic():
            answer = super().post(request, *args, **kwargs)
            _record_end(dict(request.data)["refresh"])
        return answer


def _end_family(sent: object) -> None:
    """End the refresh tokens of the same login as the one that was sent, if it had been used."""
    refresh = dict(sent).get("refresh") if isinstance(sent, dict) else None
    claims = claims_of(refresh) if isinstance(refresh, str) else {}
    used = BlacklistedToken.objects.filter(token__jti=claims.get("jti")).select_related(
        "token__user"
    )
    token = used.first()
    user = token.token.user if token else None
    if user and refresh_tokens.end_family(user, claims.get("family", "")):
        caller = caller_named(user.get_username(), "api")
        acts.record(caller, "revoke_token", None, "a refresh token was used twice")


def _record_end(refresh: str) -> None:
    """Record that a refresh token was ended, by the account that it belongs to."""
    token = BlacklistedToken.objects.select_related("token__user").get(
        token__jti=RefreshToken(refresh, verify=False)["jti"]  # type: ignore[arg-type]
    )
    user = token.token.user
    caller = caller_named(user.get_username() if user else "", "api")
    acts.record(caller, "revoke_token", None, f"token {token.token.jti[:8]}…")
