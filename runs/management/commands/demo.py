import zipfile
from time import monotonic

from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand, CommandParser

from graphs.auth.callers import caller_of_command
from graphs.models import Dataset, Graph
from graphs.services import examples, publish
from graphs.services.csv_files import CsvReader
from runs.cluster.supervisor import Supervisor
from runs.core import statuses
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.management.progress import watch
from runs.models import Run
from statemanager.file_storage import file_storage


class Command(BaseCommand):
    help = (
        "Load the bundled flights, run a graph on them in a real cluster, and show the results"
        " and where the exported file is."
    )
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--serve", action="store_true", help="serve the admin afterwards, as `up` does"
        )
        parser.add_argument("--port", type=int, default=8000, help="the port for --serve (8000)")

    def handle(self, *args: object, serve: bool, port: int, **options: object) -> None:
        self.stdout.write("Preparing the database …")
        call_command("migrate", verbosity=0)
        dataset = examples.load_dataset()
        graph = publish.publish_graph(
            dataset.namespace, "flight-delays", examples.definition("flight-delays")
        )
        rows = sum(table.rows for table in dataset.tables.all())
        self.stdout.write(
            f"Loaded {rows:,} rows in {dataset.tables.count()} tables:"
            " flights that left New York in January 2013."
        )
        run = self._run(graph, dataset)
        if run.status != statuses.COMPLETED:
            raise CommandError(f"The run ended as {run.status}: {run.error_message}")
        self._report(run)
        if serve:
            call_command("up", port=port)

    def _run(self, graph: Graph, dataset: Dataset) -> Run:
        supervisor = Supervisor()
        supervisor.start()
        try:
            run = start_run(
                graph,
                RunOptions(name="Flight delays, January 2013"),
                dataset,
                caller=caller_of_command(),
                trigger=Run.Trigger.COMMAND,
            )
            self.stdout.write(f"Running {graph} as {run.run_id} on {supervisor.workers} workers …")
            self.stdout.flush()
            started = monotonic()
            watch(run, supervisor.tick)
            seconds = monotonic() - started
            self.stdout.write(
                f"{run.success_count} states in {seconds:.1f} s, {run.emitted:,} rows exported."
            )
        finally:
            supervisor.stop()
        return run

    def _report(self, run: Run) -> None:
        """Answer two questions from the exported tables."""
        artifact = run.artifacts.get(name="flight_delays.zip")
        with file_storage.open(artifact.file) as file, zipfile.ZipFile(file) as archive:
            airlines = _read_csv(archive, "airlines.csv")
            weather = _read_csv(archive, "late_by_weather.csv")

        self.stdout.write("\nWhich airlines left New York late in January 2013?")
        for row in airlines[:5]:
            delay = float(row["mean_delay_min"])
            self.stdout.write(
                f"  {row['name']:<30} {delay:5.1f} min on average, {row['flights']:>5} flights"
            )
        late = sum(int(row["late_flights"]) for row in weather)
        in_rough_weather = sum(
            int(row["late_flights"]) for row in weather if row["weather"] == "rough"
        )
        self.stdout.write(
            "Was the weather to blame? It was rough for"
            f" {in_rough_weather:,} of the {late:,} flights that left more than an hour late."
        )
        self.stdout.write(f"\nThe full answer: {file_storage.path(artifact.file)}")


def _read_csv(archive: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
    with archive.open(name) as file:
        reader = CsvReader(file, name)
        return [dict(zip(reader.header, row, strict=True)) for row in reader]
