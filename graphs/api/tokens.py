"""JSON Web Tokens (RFC 7519, RFC 6750).

`POST /token` issues an access and a refresh token for a username and a password, `/token/refresh` a
new access token for a refresh token.
"""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer, TokenRefreshSerializer
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from graphs.api.schema import REFUSALS


class TokenView(TokenObtainPairView):
    @extend_schema(
        operation_id="token", responses={200: TokenObtainPairSerializer, **REFUSALS}, auth=[]
    )
    def post(self, request: Request, *args: str, **kwargs: str) -> Response:
        """An access token (15 minutes) and a refresh token (a day) for a username and password."""
        return super().post(request, *args, **kwargs)


class RefreshView(TokenRefreshView):
    @extend_schema(
        operation_id="token_refresh", responses={200: TokenRefreshSerializer, **REFUSALS}, auth=[]
    )
    def post(self, request: Request, *args: str, **kwargs: str) -> Response:
        """A new access token for a refresh token."""
        return super().post(request, *args, **kwargs)
