"""Who calls and what they may do: one value for users, API keys and commands."""

from dataclasses import dataclass
from typing import Any

from graphs.models import ApiKey

INCLUDES = {"read": {"read"}, "run": {"run", "read"}, "worker": {"worker", "read"}, "admin": {"admin", "run", "worker", "read"}}


@dataclass(frozen=True)
class Caller:
    """`namespaces` are the ids of those that the caller may see; None means all. `label` names the caller in records."""

    label: str
    scopes: frozenset[str]
    namespaces: frozenset[int] | None
    user: Any = None

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def sees(self, namespace_id: int) -> bool:
        return self.namespaces is None or namespace_id in self.namespaces


def caller_of_key(key: ApiKey) -> Caller:
    namespaces = None if key.all_namespaces else frozenset(namespace.pk for namespace in key.namespaces.all())
    return Caller(f"key {key.name or key.prefix}", frozenset(INCLUDES[key.scope]), namespaces)


def caller_of_user(user: Any) -> Caller:
    """Superusers may do everything; other staff what their model permissions allow, in all namespaces."""
    scopes: set[str] = set()
    if user.is_active and user.is_staff:
        if user.has_perm("runs.view_run"):
            scopes |= INCLUDES["read"]
        if user.has_perm("runs.add_run"):
            scopes |= INCLUDES["run"]
        if user.is_superuser:
            scopes |= INCLUDES["admin"]
    return Caller(user.get_username(), frozenset(scopes), None, user)


SYSTEM = Caller("system", frozenset(INCLUDES["admin"]), None)
