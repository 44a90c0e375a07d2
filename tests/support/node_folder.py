"""What a node is given, over the files of a folder: no run, no database."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from graphs.services import table_reader, tabular


class _Writer:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.file = {"name": path.name, "file": path.name, "size": 0, "checksum": ""}

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()


class NodeFolder:
    """The part of `graphs.nodes.base.Context` that nodes for tables use."""

    cancelled = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables = count()

    def progress(self, fraction: float) -> None:
        """Nobody looks at it."""

    def log(self, message: str, level: str = "info") -> None:
        """Nobody reads it."""

    def emit(self, rows: int) -> None:
        """Nobody counts them."""

    @contextmanager
    def artifact(self, name: str) -> Iterator[_Writer]:
        writer = _Writer(self._folder / name)
        try:
            yield writer
        finally:
            writer.close()

    @contextmanager
    def open_table(self, table):
        with (self._folder / table["file"]).open("rb") as file:
            yield table_reader.open_table(file, table["file"], table["format"], table["columns"])

    def rows(self, table):
        with self.open_table(table) as rows:
            for _, values in rows.pairs():
                yield values

    def write_lines(self, name, format, lines, columns, heading=""):
        counter = count()
        file = f"{next(self._tables)}-{name}.{format}"
        with self.artifact(file) as writer:
            writer.write(heading.encode())
            counted = (line for line, _ in zip(lines, counter, strict=False))
            for chunk in tabular.in_chunks(counted):
                writer.write(chunk)
        return {"file": file, "format": format, "columns": columns, "rows": next(counter)}

    def write_table(self, name, rows, columns=None):
        lines = (f"{tabular.to_json(row)}\n" for row in rows)
        return self.write_lines(name, "jsonl", lines, columns or [])
