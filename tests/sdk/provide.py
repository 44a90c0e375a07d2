"""Environments for the `exospherehost` package, which needs Python 3.12 or newer: `python -m
tests.sdk.provide` makes all of them.

Such a Python is taken from SDK_PYTHON, the PATH, pyenv or uv; with `--install`, uv is asked for
one.
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
    """A Python that is new enough; None when there is none."""
    named = [
        os.environ.get("SDK_PYTHON"),
        *(shutil.which(f"python3.{minor}") for minor in range(20, 11, -1)),
    ]
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob("3.1[2-9]*/bin/python"))
    uv = sorted((Path.home() / ".local/share/uv/python").glob("cpython-3.1[2-9]*/bin/python3"))
    for path in (*filter(None, named), *map(str, pyenv), *map(str, uv)):
        asked = subprocess.run(
            [path, "-c", "import sys, venv; print(sys.version_info >= (3, 12))"],
            capture_output=True,
            text=True,
        )
        if asked.stdout.strip() == "True":
            return path
    return None


def install() -> None:
    """Let uv bring a Python."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "uv"],
        check=True,
    )
    subprocess.run([sys.executable, "-m", "uv", "python", "install", "3.13"], check=True)


def environment(version: str) -> str | None:
    """The Python of an environment with this version of the package, made when it isn't there; None
    without a new enough Python.
    """
    FOLDER.mkdir(exist_ok=True)
    with open(FOLDER / f"{version}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = FOLDER / version
        if not (folder / "ready").exists():
            if (newer := python()) is None:
                return None
            subprocess.run(
                [newer, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True
            )
            # Our own pip installs there: one in each environment would take seconds to make.
            target = ["--python", str(folder / "bin" / "python")]
            pip = [sys.executable, "-m", "pip", *target, "install"]
            quiet = ["-q", "--disable-pip-version-check"]
            subprocess.run([*pip, *quiet, f"exospherehost=={version}"], check=True)
            (folder / "ready").touch()
        return str(folder / "bin" / "python")


if __name__ == "__main__":
    if python() is None and "--install" in sys.argv:
        install()
    for version in VERSIONS:
        made = environment(version)
        print(f"exospherehost {version}: {made or 'no Python 3.12 or newer was found'}")
        if made is None:
            sys.exit(1)
