import csv
import io
import zipfile
from time import monotonic
from typing import Any

from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand, CommandParser

from graphs.auth.callers import caller_of_command
from graphs.services import examples, publish
from runs.cluster.supervisor import Supervisor
from runs.engine.start import RunOptions, start_run
from runs.management.watching import watch
from runs.models import Run


class Command(BaseCommand):
    help = "Load the bundled flights, run the export graph through a real cluster and say where the zip lies."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--serve", action="store_true", help="go on serving the admin afterwards, as `up` does"
        )
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, serve: bool, port: int, **options: Any) -> None:
        self.stdout.write("Preparing the database …")
        call_command("migrate", verbosity=0)
        dataset = examples.load_dataset()
        graph = publish.publish_graph(
            dataset.namespace, "flight-delays", examples.definition("flight-delays")
        )
        rows = sum(table.rows for table in dataset.tables.all())
        self.stdout.write(
            f"Loaded {rows:,} rows in {dataset.tables.count()} tables: flights that left New York in January 2013."
        )
        run = self._run(graph, dataset)
        if run.status != "completed":
            raise CommandError(f"The run ended {run.status}: {run.error_message}")
        self._report(run)
        if serve:
            call_command("up", port=port)

    def _run(self, graph: Any, dataset: Any) -> Run:
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
            began = monotonic()
            watch(run, supervisor.tick)
            self.stdout.write(
                f"{run.success_count} states in {monotonic() - began:.1f} s, {run.emitted:,} rows exported."
            )
        finally:
            supervisor.stop()
        return run

    def _report(self, run: Run) -> None:
        artifact = run.artifacts.get(name="flight_delays.zip")
        with default_storage.open(artifact.file) as file, zipfile.ZipFile(file) as archive:
            airlines = list(csv.DictReader(io.StringIO(archive.read("airlines.csv").decode())))
            weather = list(
                csv.DictReader(io.StringIO(archive.read("late_by_weather.csv").decode()))
            )
        self.stdout.write("\nWhich airlines left New York late in January 2013?")
        for row in airlines[:5]:
            self.stdout.write(
                f"  {row['name']:<30} {float(row['mean_delay_min']):5.1f} min on average, {row['flights']:>5} flights"
            )
        rough = sum(int(row["late_flights"]) for row in weather if row["weather"] == "rough")
        every = sum(int(row["late_flights"]) for row in weather)
        self.stdout.write(
            f"Was the weather to blame? It was rough for {rough:,} of the {every:,} flights that left more than an hour late."
        )
        self.stdout.write(f"\nThe full answer: {default_storage.path(artifact.file)}")
