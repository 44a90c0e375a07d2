"""Environments with the wheel of this checkout, for the projects of this folder.

Each is made once in a session of tests, however many processes it has.
"""

import fcntl
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def wheel(folder: Path) -> Path:
    """The wheel of this checkout, built into the folder."""
    target = folder / "wheel"
    with _once(folder, "wheel") as is_made:
        if not is_made:
            pip = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check"]
            options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
            subprocess.run([*pip, *options, str(ROOT)], check=True)
    (found,) = target.glob("*.whl")
    return found


def environment(folder: Path, python: str) -> Path:
    """The Python of a new environment that has the wheel and what it depends on, nothing else."""
    version = subprocess.run(
        [python, "-c", "import sys; print('%s.%s' % sys.version_info[:2])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    target = folder / f"python-{version}"
    built = wheel(folder)
    with _once(folder, target.name) as is_made:
        if not is_made:
            subprocess.run([python, "-m", "venv", "--without-pip", str(target)], check=True)
            pip = [sys.executable, "-m", "pip", "--python", str(target / "bin" / "python")]
            install = ["install", "-q", "--disable-pip-version-check", str(built)]
            subprocess.run([*pip, *install], check=True)
    return target / "bin" / "python"


class _once:  # reads as a function
    """Holds a lock, and says whether what it is about was made before."""

    def __init__(self, folder: Path, name: str) -> None:
        self._lock = folder / f"{name}.lock"
        self._done = folder / f"{name}.done"

    def __enter__(self) -> bool:
        self._file = self._lock.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return self._done.exists()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._done.touch()
        self._file.close()
