"""How fast the rows.* nodes are, and how fast libraries hand rows to Python, beside each other.

`python -m tests.benchmarks.tables [ROWS]` prints the tables of docs/performance.md. The libraries
are measured if they are installed; none of them is needed otherwise. Rates are by the time of the
processor, so that other work on the machine changes them little. Each case runs in a process of its
own, which tells its largest memory.
"""

import csv
import importlib.util
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
ROWS = 500_000
HEADER = "id,carrier,origin,dest,tail,dep_delay,arr_delay,distance,price,note"
# Cells that a reader may change, and files that are no CSV.
CELLS = ["", "007", "9007199254740993", "12E4", " 1", "NaN", "null", "a,b", 'q"', "x\ny", "x\ry"]
BROKEN = [b"a,b\n1,2\n3\n", b'a,b\n1,"2\n', b'a,b\n"x"y,2\n', b"a,b\n\xe9,1\n"]


def write_file(path: Path, rows: int) -> None:
    chosen = random.Random(1)
    with path.open("w") as file:
        file.write(f"{HEADER}\n")
        for at in range(rows):
            delay = chosen.choice(["", str(chosen.randrange(-200, 1500) / 10)])
            file.write(
                f"{at},{chosen.choice(['AA', 'UA', 'B6'])},JFK,LAX,N{chosen.randrange(5000):05d},"
                f"{chosen.randrange(-20, 200)},{delay},{chosen.randrange(100, 3000)},"
                f'{chosen.randrange(1000, 90000) / 100:.2f},"late, {chosen.randrange(1000)}"\n'
            )


# --- the nodes -------------------------------------------------------------------------------


def node_cases(path: Path) -> dict[str, Callable[[], object]]:
    import django

    django.setup()
    from graphs.nodes import data, files, joins
    from graphs.services import tabular
    from graphs.services.csv_files import CsvReader
    from tests.support.node_folder import NodeFolder

    context = NodeFolder(path.parent)
    with path.open("rb") as file:
        reader = CsvReader(file, path.name)
        columns, rows = tabular.inspect_csv(reader.header, reader)
    table = {"file": path.name, "format": "csv", "columns": columns, "rows": rows}
    measures = {
        "n": {"function": "count", "column": ""},
        "late": {"function": "sum", "column": "dep_delay"},
        "mean": {"function": "mean", "column": "arr_delay"},
    }
    small = {**table, "rows": 1}
    return {
        "rows.filter, few values": lambda: data.filter_rows(context, table, "row.dep_delay > 90"),
        "rows.filter, all different": lambda: data.filter_rows(context, table, "row.id > 90"),
        "rows.map": lambda: data.map_rows(context, table, {"late": "row.dep_delay > 60"}),
        "rows.map, keep": lambda: data.map_rows(
            context, table, {"late": "row.dep_delay > 60"}, True
        ),
        "rows.aggregate": lambda: data.aggregate(context, table, ["carrier"], measures),
        "rows.join": lambda: joins.join(context, table, small, {"id": "id"}, prefix="r_"),
        "table.export": lambda: files.export(context, table, "out"),
    }


# --- the readers -----------------------------------------------------------------------------


def of_csv(path: Path, columns: list[str]) -> Iterator[tuple[str, ...]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file, strict=True)
        next(rows)
        yield from rows


def of_pyarrow(path: Path, columns: list[str]) -> Iterator[tuple[str, ...]]:
    import pyarrow
    from pyarrow import csv as arrow_csv

    batches = arrow_csv.open_csv(
        path,
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pyarrow.string())
        ),
    )
    for batch in batches:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def of_polars(path: Path, columns: list[str]) -> Iterator[tuple[str, ...]]:
    import polars

    frame = polars.scan_csv(path, infer_schema=False)
    for batch in frame.collect_batches(chunk_size=50_000):
        yield from batch.fill_null("").iter_rows()


def of_duckdb(path: Path, columns: list[str]) -> Iterator[tuple[str, ...]]:
    import duckdb

    types = ", ".join(f"'{name}': 'VARCHAR'" for name in columns)
    query = (
        "SELECT * FROM read_csv(?, header = true, auto_detect = false, strict_mode = true, "
        f"delim = ',', quote = '\"', escape = '\"', columns = {{{types}}})"
    )
    with duckdb.connect() as connection:
        result = connection.execute(query, [str(path)])
        while rows := result.fetchmany(10_000):
            yield from (tuple(cell or "" for cell in row) for row in rows)


READERS = {"csv": of_csv, "pyarrow": of_pyarrow, "polars": of_polars, "duckdb": of_duckdb}


def exact(read: Callable[[Path, list[str]], Iterator[tuple[str, ...]]], folder: Path) -> str:
    """Whether a reader gives every cell as it was written, and refuses what is no CSV."""
    path = folder / "cells.csv"
    target = io.StringIO()
    csv.writer(target, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [["a", "b"], *([cell, "x"] for cell in CELLS)]
    )
    path.write_bytes(target.getvalue().encode())
    same = [row[0] for row in read(path, ["a", "b"])] == CELLS
    refused = 0
    for data in BROKEN:
        path.write_bytes(data)
        try:
            refused += any(len(row) != 2 for row in read(path, ["a", "b"]))
        except Exception:
            refused += 1
    return f"{'yes' if same else 'no'} | {refused} of {len(BROKEN)}"


# --- measuring -------------------------------------------------------------------------------


def measure(case: str, path: Path) -> dict[str, float | str]:
    """One case, in this process."""
    if case in READERS:
        run = lambda: sum(1 for _ in READERS[case](path, HEADER.split(",")))  # noqa: E731
    else:
        run = node_cases(path)[case]
    before = process_time()
    run()
    spent = process_time() - before
    result: dict[str, float | str] = {"seconds": spent}
    result["mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if case in READERS:
        result["exact"] = exact(READERS[case], path.parent)
    return result


def in_process(case: str, path: Path) -> dict[str, float | str]:
    command = [sys.executable, "-m", "tests.benchmarks.tables", "--case", case, str(path)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(answer.stdout.splitlines()[-1]))


NODES = (
    "rows.filter, few values", "rows.filter, all different", "rows.map", "rows.map, keep",
    "rows.aggregate", "rows.join", "table.export",
)  # fmt: skip


def main() -> None:
    if "--case" in sys.argv:
        case, path = sys.argv[-2:]
        print(json.dumps(measure(case, Path(path))))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory(prefix="statemanager-bench-") as folder:
        path = Path(folder) / "t.csv"
        write_file(path, rows)
        print(f"| {rows:,} rows | rows/s | MB |\n|---|---|---|")
        for case in NODES:
            figures = in_process(case, path)
            print(f"| {case} | {rows / figures['seconds']:,.0f} | {figures['mb']:,.0f} |")
        print("\n| reader | rows/s | MB | exact | refuses |\n|---|---|---|---|---|")
        for case in READERS:
            if importlib.util.find_spec(case):
                figures = in_process(case, path)
                print(
                    f"| {case} | {rows / figures['seconds']:,.0f} | {figures['mb']:,.0f} "
                    f"| {figures['exact']} |"
                )


if __name__ == "__main__":
    main()
