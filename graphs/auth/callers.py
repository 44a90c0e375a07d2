"""Who calls and what they may do: one value for users, API keys and commands."""

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import Q

from graphs.definition import errors
from graphs.models import ApiKey, NamespaceMembership

INCLUDES = {
    "read": {"read"},
    "run": {"run", "read"},
    "worker": {"worker", "read"},
    "admin": {"admin", "run", "worker", "read"},
}

# What can be done with runs: the right, Django's permission that gives it everywhere, and how a refusal says it.
PERMISSIONS = {
    "view": "statemanager_runs.view_run",
    "payloads": "statemanager_runs.view_payload",
    "start": "statemanager_runs.add_run",
    "rerun": "statemanager_runs.rerun_run",
    "cancel": "statemanager_runs.cancel_run",
    "change": "statemanager_runs.change_run",
    "set_status": "statemanager_runs.set_status_run",
    "delete": "statemanager_runs.delete_run",
    "export": "statemanager_runs.export_run",
}
RIGHT_LABELS = {
    "view": "view runs",
    "payloads": "see inputs, outputs and logs of runs",
    "start": "start runs, or store graphs and datasets",
    "rerun": "rerun runs",
    "cancel": "cancel, pause, resume, retry and answer runs",
    "change": "archive and label runs",
    "set_status": "set the status of runs by hand",
    "delete": "delete runs",
    "export": "export runs",
}
RIGHTS = frozenset(PERMISSIONS)
_READS = frozenset({"view", "payloads", "export"})
_RUNS = _READS | {"start", "rerun", "cancel", "change"}
OF_ROLE = {"viewer": frozenset({"view"}), "reader": _READS, "operator": _RUNS, "manager": RIGHTS}
OF_SCOPE = {"read": _READS, "worker": _READS, "run": _RUNS, "admin": RIGHTS}
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Caller:
    """`namespaces` are the ids of those that the caller may see; None means all. `label` names the caller in records.

    `rights` hold in all of them, those of `within` in one; `via` is the door (page, api, command, system), `operation` the bulk operation, `key` the API key.
    """

    label: str
    scopes: frozenset[str]
    namespaces: frozenset[int] | None
    user: Any = None
    rights: frozenset[str] = RIGHTS
    within: Mapping[int, frozenset[str]] = field(default_factory=dict)
    via: str = "api"
    operation: int | None = None
    key: int | None = None

    def may(self, word: str) -> bool:
        """Whether the caller has this scope, or this right somewhere."""
        return (
            word in self.scopes
            or word in self.rights
            or any(word in rights for rights in self.within.values())
        )

    def sees(self, namespace_id: int) -> bool:
        return self.namespaces is None or namespace_id in self.namespaces

    def can(self, right: str, namespace_id: int) -> bool:
        """Whether the caller has the right in this namespace."""
        return self.sees(namespace_id) and (
            right in self.rights or right in self.within.get(namespace_id, NOTHING)
        )

    def require(self, right: str, namespace_id: int) -> None:
        """Raises Forbidden without the right."""
        if not self.can(right, namespace_id):
            raise errors.Forbidden(f"{self.label} may not {RIGHT_LABELS[right]} in this namespace.")

    def where(self, right: str) -> Q | None:
        """The condition on `namespace` under which the caller has the right; None where it has it in all."""
        if right in self.rights:
            return None if self.namespaces is None else Q(namespace__in=self.namespaces)
        return Q(namespace__in=[pk for pk, rights in self.within.items() if right in rights])

    def through(self, via: str, operation: int | None = None) -> "Caller":
        return replace(self, via=via, operation=operation)


def caller_of_key(key: ApiKey) -> Caller:
    namespaces = (
        None
        if key.all_namespaces
        else frozenset(namespace.pk for namespace in key.namespaces.all())
    )
    return Caller(
        f"key {key.name or key.prefix}",
        frozenset(INCLUDES[key.scope]),
        namespaces,
        rights=OF_SCOPE[key.scope],
        key=key.pk,
    )


def caller_of_user(user: Any, via: str = "api") -> Caller:
    """Superusers may do everything; other staff what their model permissions allow everywhere, and their roles in single namespaces."""
    if not (user.is_active and user.is_staff):
        return Caller(user.get_username(), NOTHING, frozenset(), user, NOTHING, via=via)
    if user.is_superuser:
        return Caller(user.get_username(), frozenset(INCLUDES["admin"]), None, user, via=via)
    rights = frozenset(
        right for right, permission in PERMISSIONS.items() if user.has_perm(permission)
    )
    within: dict[int, frozenset[str]] = {}
    for namespace, role in NamespaceMembership.objects.of(user).values_list("namespace", "role"):
        within[namespace] = within.get(namespace, NOTHING) | OF_ROLE[role]
    everywhere = "view" in rights
    caller = Caller(
        user.get_username(),
        NOTHING,
        None if everywhere else frozenset(within),
        user,
        rights if everywhere else NOTHING,
        within,
        via,
    )
    reads, runs = (
        caller.may("view"),
        any(caller.may(right) for right in ("start", "rerun", "cancel")),
    )
    return replace(
        caller,
        scopes=frozenset(
            (INCLUDES["read"] if reads else set()) | (INCLUDES["run"] if runs else set())
        ),
    )


def caller_of_command() -> Caller:
    """Whoever may run a command on the machine may do everything; records name the account."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        account = "unknown"
    return replace(SYSTEM, label=f"command of {account}"[:150], via="command")


SYSTEM = Caller("system", frozenset(INCLUDES["admin"]), None, via="system")
