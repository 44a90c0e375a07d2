import json
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth.callers import caller_of_command
from graphs.definition import errors, payloads
from graphs.definition.types import Json
from graphs.models import Dataset, Graph
from graphs.services import dataset_files, datasets
from runs.core import statuses
from runs.engine import answer
from runs.engine.executor import Executor
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.management.graphs import describe, find_graph
from runs.management.progress import watch
from runs.models import Cluster, Run, State


class Command(BaseCommand):
    help = (
        "Start a run of a graph and print its id. With --wait, follow the run to its end; the exit"
        " code is 1 unless it completes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("graph", metavar="NAMESPACE/GRAPH")
        parser.add_argument(
            "--dataset",
            metavar="PATH",
            help="the name of a dataset, or a folder, zip, CSV or JSON Lines file to load",
        )
        parser.add_argument(
            "--input",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help="an input; a value that isn't JSON is taken as text",
        )
        parser.add_argument("--run-id", default="", help="the id of the run (default: a new one)")
        parser.add_argument(
            "--wait",
            action="store_true",
            help="follow the run; if no cluster is running, execute it here",
        )

    def handle(
        self,
        *args: object,
        graph: str,
        dataset: str | None,
        input: list[str],
        run_id: str,
        wait: bool,
        **options: object,
    ) -> None:
        try:
            stored_graph = find_graph(graph)
            run_options = RunOptions(run_id=run_id, inputs=dict(map(_parse_input, input)))
            run = start_run(
                stored_graph,
                run_options,
                _find_dataset(stored_graph, dataset) if dataset else None,
                caller=caller_of_command(),
                trigger=Run.Trigger.COMMAND,
            )
        except errors.StateManagerError as error:
            raise CommandError(describe(error)) from None
        self.stdout.write(run.run_id)
        if wait:
            self._wait(run)

    def _wait(self, run: Run) -> None:
        executor: Executor | None = None

        def meanwhile() -> None:
            """Execute the run here as soon as no cluster is running."""
            nonlocal executor
            if executor is None and not Cluster.objects.alive().exists():
                self.stderr.write("No cluster is running, so this command executes the run itself.")
                executor = Executor()
            if executor:
                executor.drain()
            _stop_at_question(run)

        watch(run, meanwhile)
        if run.status != statuses.COMPLETED:
            raise CommandError(f"The run ended as {run.status}: {run.error_message}", returncode=1)


def _find_dataset(graph: Graph, name: str) -> Dataset:
    """Return the dataset of this name, or load the file or folder of this path as one."""
    dataset = Dataset.objects.filter(namespace=graph.namespace, name=name).first()
    if dataset:
        return dataset
    with dataset_files.sources_at(Path(name)) as sources:
        return datasets.load(
            graph.namespace,
            Path(name).stem,
            sources,
            origin=str(name),
            caller=caller_of_command(),
        )


def _parse_input(text: str) -> tuple[str, Json]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise CommandError(f"--input takes KEY=VALUE, not {text!r}.")
    try:
        return key, payloads.parse(value)
    except json.JSONDecodeError:
        return key, value
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--input {key}: {error}") from None


def _stop_at_question(run: Run) -> None:
    """Raises CommandError if the run waits for an answer, which this command can't give."""
    if run.status != statuses.PAUSED:
        return
    state = State.objects.filter(answer.WAITS, run=run).first()
    if state:
        raise CommandError(
            f"{state.identifier} waits for an answer: {state.waiting_for['question']}\n"
            f"POST it to /runs/{run.run_id}/states/{state.pk}/answer"
        )
