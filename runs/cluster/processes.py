"""What the processes of an installation have in common: how they stop, end and are found."""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from threading import Event

from runs.core import silent_path

PR_SET_PDEATHSIG = 1


def stop_on_signals() -> Event:
    """An event that SIGTERM and SIGINT set."""
    stop = Event()

    def ask_to_stop(*_: object) -> None:
        stop.set()
        silent_path.hurry()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    return stop


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies. Elsewhere this does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def group_of(leader: int) -> list[int]:
    """The living processes of a process group; none where there is no /proc, as outside Linux."""
    members = []
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else []:
        with suppress(OSError):  # the process may end while we look
            if entry.isdigit() and os.getpgid(int(entry)) == leader and _lives(entry):
                members.append(int(entry))
    return members


def _lives(pid: str) -> bool:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] not in "ZX"
