"""Access and refresh tokens whose times are the database's.

The library compares the times of a token with the clock of the host. A host whose clock is behind
would accept tokens that are over, and even revoked ones, once the list of those is cleaned up; one
whose clock is ahead would refuse fresh ones.
"""

from datetime import datetime
from typing import Any

import jwt
from rest_framework_simplejwt import tokens
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError
from rest_framework_simplejwt.settings import api_settings

from graphs.models import clock

_NO_TIMES = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}


class SignatureBackend(TokenBackend):
    """Checks the signature and leaves the times to the token."""

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        options: Any = {"verify_signature": verify, "verify_aud": False, **_NO_TIMES}
        try:
            return jwt.decode(
                token, self.get_verifying_key(token), algorithms=[self.algorithm], options=options
            )
        except jwt.InvalidTokenError as error:
            raise TokenBackendError("The token is invalid.") from error


class DatabaseTime:
    """A token that is issued and judged by the database's clock."""

    _token_backend: TokenBackend | None = SignatureBackend(
        api_settings.ALGORITHM, api_settings.SIGNING_KEY
    )

    @property
    def current_time(self) -> datetime:
        return self._now

    @current_time.setter
    def current_time(self, by_host: datetime) -> None:
        """The library sets the time once, when it makes or reads a token."""
        self._now = clock.estimate()


class AccessToken(DatabaseTime, tokens.AccessToken):
    pass


class RefreshToken(DatabaseTime, tokens.RefreshToken):
    """A refresh token. All that follow from one login have the `family` of the first."""

    access_token_class = AccessToken

    @classmethod
    def for_user(cls, user: Any) -> Any:
        token = super().for_user(user)
        token["family"] = token["jti"]
        return token


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a token of ours, whatever its age; none of any other."""
    try:
        return SignatureBackend(api_settings.ALGORITHM, api_settings.SIGNING_KEY).decode(token)
    except TokenBackendError:
        return {}
