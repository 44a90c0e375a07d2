"""Named places in the code at which tests kill, stop or disconnect a process.

`STATEMANAGER_FAILPOINTS` names a folder, for all processes that inherit the variable. A file in it
with the name of a failpoint arms that one; its content is the action: `kill` or `stop` (the
signals), or `raise` (as if the database had gone away). The first process that reaches the
failpoint takes the file away, leaves its id in `<name>.fired` and performs the action. All others
pass, so that a test causes one fault at a time. Without the variable, failpoints do nothing.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

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
    "message-taken": "sender",
    "message-sent": "sender",
    "run-created-before-response": "caller",
    "cancel-between-flag-and-states": "caller",
    "after-cancel-commit": "caller",
    "bulk-delete-between-batches": "caller",
    "checkpoint-put-before-commit": "caller",
    "after-checkpoint-put-commit": "caller",
    "after-run-state-commit": "caller",
}
ACTIONS = ("kill", "stop", "raise")


_folder = os.environ.get("STATEMANAGER_FAILPOINTS", "")


def failpoint(name: str) -> None:
    """Mark a place at which tests cause a fault. Raises OperationalError if armed to `raise`."""
    if _folder:
        _fire(Path(_folder, name))


def _fire(file: Path) -> None:
    taken = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.rename(taken)
    except FileNotFoundError:
        return
    action = taken.read_text()
    taken.write_text(str(os.getpid()))
    taken.rename(file.with_name(f"{file.name}.fired"))
    if action == "raise":
        raise OperationalError(f"failpoint {file.name}")
    os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGSTOP)
