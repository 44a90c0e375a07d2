"""Who calls and what they may do: one value for users, API keys, commands and the system."""

import getpass
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from graphs.definition import errors
from graphs.models import ApiKey, NamespaceMembership

if TYPE_CHECKING:
    from django.contrib.auth.models import User  # or the model that AUTH_USER_MODEL names

# The scopes that each scope of an API key includes.
INCLUDES = {
    "read": {"read"},
    "run": {"run", "read"},
    "worker": {"worker", "read"},
    "admin": {"admin", "run", "worker", "read"},
}

# The rights, each with the model permission that gives it in all namespaces.
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
# The rights as a refusal names them: "You may not ...".
RIGHT_LABELS = {
    "view": "view runs",
    "payloads": "see inputs, outputs and logs of runs",
    "start": "start runs, or store graphs and datasets",
    "rerun": "rerun runs",
    "cancel": "cancel, pause, resume, retry and answer runs",
    "change": "archive and label runs, or write notes on them",
    "set_status": "set the status of runs by hand",
    "delete": "delete runs",
    "export": "export runs",
}

KEY_LABEL = "key "  # begins the labels of API keys
COMMAND_LABEL = "command of "  # and those of commands
NO_RIGHTS: frozenset[str] = frozenset()
READING_RIGHTS = frozenset({"view", "payloads", "export"})
RUNNING_RIGHTS = READING_RIGHTS | {"start", "rerun", "cancel", "change"}
RIGHTS = frozenset(PERMISSIONS)

RIGHTS_OF_ROLE = {
    "viewer": frozenset({"view"}),
    "reader": READING_RIGHTS,
    "operator": RUNNING_RIGHTS,
    "manager": RIGHTS,
}
RIGHTS_OF_SCOPE = {
    "read": READING_RIGHTS,
    "worker": READING_RIGHTS,
    "run": RUNNING_RIGHTS,
    "admin": RIGHTS,
}
# The rights of those who may make a key of each scope. A worker decides what becomes of runs and is
# given the secrets of their graphs, which no right to read includes.
RIGHTS_TO_GRANT = {**RIGHTS_OF_SCOPE, "worker": RUNNING_RIGHTS}


@dataclass(frozen=True)
class Caller:
    """A user, an API key, a command or the system, with what it may do.

    `label` names the caller in records. `namespaces` are the ids of the namespaces that it sees,
    or None for all of them. `rights` hold in every namespace that it sees, `namespace_rights` in
    single ones. `via` is the door: page, api, command or system. `operation` is the id of the bulk
    operation that acts for the caller, and `key` the id of the API key.
    """

    label: str
    scopes: frozenset[str]
    namespaces: frozenset[int] | None
    user: "User | None" = None
    rights: frozenset[str] = RIGHTS
    namespace_rights: Mapping[int, frozenset[str]] = field(default_factory=dict)
    via: str = "api"
    operation: int | None = None
    key: int | None = None

    @property
    def username(self) -> str:
        """The username of the runs that the caller starts: a user's, or the name of an API key.

        Empty for commands and the system.
        """
        if self.key:
            return self.label.removeprefix(KEY_LABEL)
        return self.label if self.user else ""

    def may(self, scope_or_right: str) -> bool:
        """Whether the caller has this scope, or this right in at least one namespace."""
        if scope_or_right in self.scopes or scope_or_right in self.rights:
            return True
        return any(scope_or_right in rights for rights in self.namespace_rights.values())

    def sees(self, namespace_id: int) -> bool:
        """Whether the namespace exists for the caller at all."""
        return self.namespaces is None or namespace_id in self.namespaces

    def can(self, right: str, namespace_id: int) -> bool:
        """Whether the caller has the right in this namespace."""
        if not self.sees(namespace_id):
            return False
        return right in self.rights or right in self.namespace_rights.get(namespace_id, NO_RIGHTS)

    def require(self, right: str, namespace_id: int) -> None:
        """Raise Forbidden if the caller lacks the right in this namespace."""
        if not self.can(right, namespace_id):
            raise errors.Forbidden(f"{self.label} may not {RIGHT_LABELS[right]} in this namespace.")

    def may_grant(self, scope: str, namespace_ids: Iterable[int] | None) -> bool:
        """Whether the caller may make a key of this scope, in these namespaces or, with None, in
        all. A key can't do more than the caller who makes it.
        """
        if scope == "admin" and "admin" not in self.scopes:
            return False
        rights = RIGHTS_TO_GRANT[scope]
        if namespace_ids is None:
            return self.namespaces is None and rights <= self.rights
        return all(self.can(right, pk) for right in rights for pk in namespace_ids)

    def where(self, right: str) -> Q | None:
        """A filter on `namespace` for those in which the caller has the right; None for all."""
        ids = self.namespaces_with(right)
        return None if ids is None else Q(namespace__in=ids)

    def namespaces_with(self, right: str) -> frozenset[int] | None:
        """The ids of the namespaces in which the caller has the right; None for all."""
        if right in self.rights:
            return self.namespaces
        return frozenset(pk for pk, rights in self.namespace_rights.items() if right in rights)

    def with_door(self, via: str, operation: int | None = None) -> "Caller":
        """The same caller, coming through another door or on behalf of a bulk operation."""
        return replace(self, via=via, operation=operation)


def caller_of_key(key: ApiKey) -> Caller:
    """The caller that an API key identifies."""
    namespaces = None
    if not key.all_namespaces:
        namespaces = frozenset(namespace.pk for namespace in key.namespaces.all())
    return Caller(
        f"{KEY_LABEL}{key.name or key.prefix}",
        frozenset(INCLUDES[key.scope]),
        namespaces,
        rights=RIGHTS_OF_SCOPE[key.scope],
        key=key.pk,
    )


def caller_of_user(user: Any, via: str = "api") -> Caller:
    """The caller that a user is; `user` may be anonymous.

    A superuser may do everything. Other staff have the rights of their model permissions in all
    namespaces, and those of their roles in single ones. Everybody else has none.
    """
    name = user.get_username()
    if not (user.is_active and user.is_staff):
        return Caller(name, NO_RIGHTS, frozenset(), user, NO_RIGHTS, via=via)
    if user.is_superuser:
        return Caller(name, frozenset(INCLUDES["admin"]), None, user, via=via)

    rights = frozenset(
        right for right, permission in PERMISSIONS.items() if user.has_perm(permission)
    )
    namespace_rights = _rights_by_role(user)
    sees_all = "view" in rights
    caller = Caller(
        label=name,
        scopes=NO_RIGHTS,
        namespaces=None if sees_all else frozenset(namespace_rights),
        user=user,
        rights=rights if sees_all else NO_RIGHTS,
        namespace_rights=namespace_rights,
        via=via,
    )
    return replace(caller, scopes=_scopes_for_rights(caller))


def _rights_by_role(user: "User") -> dict[int, frozenset[str]]:
    """The rights that the roles of a user and of the user's groups give, by namespace id."""
    rights: dict[int, frozenset[str]] = {}
    for namespace, role in NamespaceMembership.objects.of(user).values_list("namespace", "role"):
        rights[namespace] = rights.get(namespace, NO_RIGHTS) | RIGHTS_OF_ROLE[role]
    return rights


def _scopes_for_rights(caller: Caller) -> frozenset[str]:
    """The scopes with which a user may call the API."""
    scopes: set[str] = set()
    if caller.may("view"):
        scopes |= INCLUDES["read"]
    if any(caller.may(right) for right in ("start", "rerun", "cancel")):
        scopes |= INCLUDES["run"]
    return frozenset(scopes)


def caller_named(label: str, via: str) -> Caller:
    """A caller for records only, which may do nothing."""
    return Caller(label, NO_RIGHTS, frozenset(), rights=NO_RIGHTS, via=via)


def username_of(label: str) -> str:
    """The `username` of the caller with this label."""
    if label == SYSTEM.label or label.startswith(COMMAND_LABEL):
        return ""
    return label.removeprefix(KEY_LABEL)


def caller_of_command() -> Caller:
    """The caller that a management command is; it may do everything.

    Records name the account of the operating system that runs the command.
    """
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        account = "unknown"
    return replace(SYSTEM, label=f"{COMMAND_LABEL}{account}"[:150], via="command")


SYSTEM = Caller("system", frozenset(INCLUDES["admin"]), None, via="system")
