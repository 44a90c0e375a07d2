"""Places with names, at which tests make a process die, stop or lose its database; outside of tests they do nothing.

`STATEMANAGER_FAILPOINT=name:action:marker` arms one for all processes that inherit it. The first that comes by makes the file `marker`, with its process
id, and does the action: `kill` or `stop` (the signals), or `raise` (as if the database had gone). The others pass: one fault a time.
"""

import os
import signal
from collections.abc import Mapping

from django.db import OperationalError

# the place: which process comes by
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

_name, _action, _marker = [*os.environ.get("STATEMANAGER_FAILPOINT", "").split(":", 2), "", "", ""][
    :3
]
if _name and (_name not in POINTS or _action not in ACTIONS or not _marker):
    raise ValueError(
        f"STATEMANAGER_FAILPOINT is name:action:marker with a name of {', '.join(POINTS)} and an action of {', '.join(ACTIONS)}"
    )


def failpoint(name: str) -> None:
    """The place of this name. Raises OperationalError when it is armed so."""
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
