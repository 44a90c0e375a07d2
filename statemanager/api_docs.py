"""The documentation pages of the API. PUBLIC_DOCS says whether everybody may read them."""

from csp.decorators import csp_update
from django.conf import settings
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.views import APIView

from graphs.api.permissions import KnownCaller


class Closable(APIView):
    """A view that is open to everybody, unless the setting closes it to anonymous callers."""

    setting = ""

    def get_authenticators(self) -> list[BaseAuthentication]:
        if getattr(settings, self.setting):
            return []
        return super().get_authenticators()

    def get_permissions(self) -> list[BasePermission]:
        return [] if getattr(settings, self.setting) else [KnownCaller()]


class SchemaView(Closable, SpectacularAPIView):
    setting = "PUBLIC_DOCS"


class DocsView(Closable, SpectacularSwaggerSplitView):
    setting = "PUBLIC_DOCS"


schema = SchemaView.as_view()
docs = csp_update({"style-src": ["'self'", "'unsafe-inline'"]})(DocsView.as_view(url_name="schema"))
