"""Which database a process of the tests uses."""


def database_of(worker: str) -> str:
    """The database of a process of pytest-xdist: of gw0, gw2 … SQLite, of the others PostgreSQL."""
    return ("sqlite", "postgresql")[int(worker.removeprefix("gw")) % 2]
