"""What a caller may do, by scope. An action that names no scope is refused."""

from typing import TYPE_CHECKING

from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from graphs.auth.callers import RIGHT_LABELS, Caller

if TYPE_CHECKING:  # DRF imports this module before its views
    from rest_framework.views import APIView

    from graphs.api.viewsets import ViewSet


class Denied(BasePermission):
    """The default for views that choose no permission: nothing is allowed."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        return False


class KnownCaller(BasePermission):
    """The caller may read something, whatever it is."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        return isinstance(request.auth, Caller) and request.auth.may("read")


class ScopePermission(BasePermission):
    """The caller has the scope or right that the viewset's `scopes` names for the action."""

    def has_permission(self, request: Request, view: "ViewSet") -> bool:  # type: ignore[override]
        caller = request.auth
        if not isinstance(caller, Caller):
            return False
        method = str(request.method)
        if not hasattr(view, method.lower()):
            raise MethodNotAllowed(method)

        scope = view.needed_scope
        if scope is None:
            return False
        self.message = _refusal(scope, caller)
        return caller.may(scope)


class AdminPermission(ScopePermission):
    """API keys need the scope admin, users must be staff.

    Staff read what their permissions allow. Other actions may need the scope admin, as
    `scopes` says.
    """

    def has_permission(self, request: Request, view: "ViewSet") -> bool:  # type: ignore[override]
        if not super().has_permission(request, view):
            return False
        self.message = "This is for admins only."
        caller = request.auth
        if not isinstance(caller, Caller):
            return False
        is_staff = caller.user is not None and caller.user.is_staff
        return caller.may("admin") or is_staff


def _refusal(scope: str, caller: Caller) -> str:
    if scope in RIGHT_LABELS:
        return f"{caller.label} may not {RIGHT_LABELS[scope]}."
    scopes = ", ".join(sorted(caller.scopes)) or "none"
    return f"This needs the scope {scope!r}; yours are {scopes}."
