"""Environments for the `exospherehost` package, which needs Python 3.12 or newer.

`python -m tests.sdk.provide` makes one for each version of the package. The Python is the one that
SDK_PYTHON names, or one from the PATH, pyenv or uv. With `--install`, uv installs one if there is
none.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSIONS = ("0.0.3", "0.0.2b3", "0.0.2b2")
FOLDER = Path(sys.prefix) / "sdk"


def python() -> str | None:
    """A Python that is new enough, or None."""
    named = [
        os.environ.get("SDK_PYTHON"),
        *(shutil.which(f"python3.{minor}") for minor in range(20, 11, -1)),
    ]
    check = "import sys, venv; print(sys.version_info >= (3, 12))"
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob("3.1[2-9]*/bin/python"))
    uv = sorted((Path.home() / ".local/share/uv/python").glob("cpython-3.1[2-9]*/bin/python3"))
    for path in (*filter(None, named), *map(str, pyenv), *map(str, uv)):
        answer = subprocess.run([path, "-c", check], capture_output=True, text=True)
        if answer.stdout.strip() == "True":
            return path
    return None


def pip_install(python: str, requirement: str) -> None:
    """Install into the environment of `python`, with this environment's pip."""
    pip = [sys.executable, "-m", "pip", "--python", python, "install"]
    subprocess.run([*pip, "-q", "--disable-pip-version-check", requirement], check=True)


def install_python() -> None:
    """Install a Python with uv."""
    pip_install(sys.executable, "uv")
    subprocess.run([sys.executable, "-m", "uv", "python", "install", "3.13"], check=True)


def environment(version: str) -> str | None:
    """The Python of an environment with this version of the package.

    The environment is made on first use. Gives None if no Python is new enough.
    """
    FOLDER.mkdir(exist_ok=True)
    folder = FOLDER / version
    with open(FOLDER / f"{version}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            base = python()
            if base is None:
                return None
            subprocess.run(
                [base, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True
            )
            pip_install(str(folder / "bin" / "python"), f"exospherehost=={version}")
            (folder / "ready").touch()
    return str(folder / "bin" / "python")


if __name__ == "__main__":
    if python() is None and "--install" in sys.argv:
        install_python()
    for version in VERSIONS:
        executable = environment(version)
        print(f"exospherehost {version}: {executable or 'no Python 3.12 or newer was found'}")
        if executable is None:
            sys.exit(1)
