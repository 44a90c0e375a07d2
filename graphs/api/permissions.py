"""What a caller may do, by scope. Views that name no scope for a method refuse it."""

from typing import Any

from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from graphs.auth.callers import RIGHT_LABELS, Caller


class Denied(BasePermission):
    """The default: nothing."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return False


class Scoped(BasePermission):
    """The caller has the scope that the view's `scopes` names for the method."""

    def has_permission(self, request: Request, view: Any) -> bool:
        method = str(request.method)
        if isinstance(request.auth, Caller) and not hasattr(view, method.lower()):
            raise MethodNotAllowed(method)
        scope = view.scopes.get("GET" if method in ("HEAD", "OPTIONS") else method)
        if not isinstance(request.auth, Caller):
            return False
        self.message = _needs(str(scope), request.auth)
        return scope is not None and request.auth.may(scope)


class AdminOnly(Scoped):
    """Keys with the scope admin; of the users, staff: they read what their permissions allow, and need the scope admin for more."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not super().has_permission(request, view):
            return False
        self.message = "This is for admins only."
        caller = request.auth
        return isinstance(caller, Caller) and (
            caller.may("admin") or bool(caller.user and caller.user.is_staff)
        )


def _needs(word: str, caller: Caller) -> str:
    if word in RIGHT_LABELS:
        return f"{caller.label} may not {RIGHT_LABELS[word]}."
    return f"This needs the scope {word!r}; yours are {', '.join(sorted(caller.scopes)) or 'none'}."
