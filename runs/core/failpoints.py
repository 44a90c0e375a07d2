"""Named places in the code at which tests kill, stop or disconnect a process.

`STATEMANAGER_FAILPOINT=name:action:marker` arms one failpoint for all processes that inherit the
variable. The first process that reaches it writes its id to the file `marker` and performs the
action: `kill` or `stop` (the signals), or `raise` (as if the database had gone away). All others
pass, so that a test causes one fault at a time. Without the variable, failpoints do nothing.
"""

import os
import signal
from collections.abc import Mapping

from django.db import OperationalError

# The failpoints, with the kind of process that reaches each of them.
POINTS: Mapping[str, str] = {
    "after-claim-commit": "worker",
    "before-node": "worker",
    "mid-node": "worker",
    "after-effect-before-record": "worker",
    "in-completion-before-commit": "worker",
    "after-completion-commit": "worker",
    "in-heartbeat": "worker",
    "after-heartbeat-commit": "worker",
    "before-hint": "worker",
    "in-sweep-between-mark-and-hint": "supervisor",
    "run-created-before-response": "caller",
    "cancel-between-flag-and-states": "caller",
    "after-cancel-commit": "caller",
    "bulk-delete-between-batches": "caller",
    "checkpoint-put-before-commit": "caller",
    "after-checkpoint-put-commit": "caller",
    "after-run-state-commit": "caller",
}
ACTIONS = ("kill", "stop", "raise")


def _armed() -> tuple[str, str, str]:
    """The name, action and marker file of the armed failpoint. Raises ValueError if malformed."""
    value = os.environ.get("STATEMANAGER_FAILPOINT", "")
    if not value:
        return "", "", ""
    name, action, marker = [*value.split(":", 2), "", ""][:3]
    if name not in POINTS or action not in ACTIONS or not marker:
        raise ValueError(
            "STATEMANAGER_FAILPOINT must be name:action:marker, with one of the names "
            f"{', '.join(POINTS)} and one of the actions {', '.join(ACTIONS)}."
        )
    return name, action, marker


_name, _action, _marker = _armed()


def failpoint(name: str) -> None:
    """Mark a place at which tests cause a fault. Raises OperationalError if armed to `raise`."""
    if name == _name:
        _fire()


def _fire() -> None:
    try:
        marker = os.open(_marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return
    os.write(marker, str(os.getpid()).encode())
    os.close(marker)
    if _action == "raise":
        raise OperationalError(f"failpoint {_name}")
    os.kill(os.getpid(), signal.SIGKILL if _action == "kill" else signal.SIGSTOP)
