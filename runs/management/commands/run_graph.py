import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from graphs.auth.callers import caller_of_command
from graphs.definition import errors
from graphs.models import Dataset, Graph
from graphs.services import datasets
from runs.core import statuses
from runs.engine import answer
from runs.engine.executor import Executor
from runs.engine.start import RunOptions, start_run
from runs.management.watching import watch
from runs.models import Cluster, Run, State


class Command(BaseCommand):
    help = "Start a run of a graph and print its id; with --wait follow it to its end (exit code 1 unless it completes)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("graph", metavar="NAMESPACE/GRAPH")
        parser.add_argument(
            "--dataset",
            metavar="PATH",
            help="a folder, zip, CSV or JSON Lines file to load, or the name of a dataset",
        )
        parser.add_argument(
            "--input",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help="an input; the value is JSON, or else text",
        )
        parser.add_argument("--run-id", default="")
        parser.add_argument(
            "--wait",
            action="store_true",
            help="follow the run; without a living cluster it is executed here",
        )

    def handle(
        self, *args: Any, graph: str, dataset: str | None, wait: bool, **options: Any
    ) -> None:
        try:
            found = self._graph(graph)
            chosen = RunOptions(run_id=options["run_id"], inputs=dict(map(_pair, options["input"])))
            run = start_run(
                found,
                chosen,
                self._dataset(found, dataset) if dataset else None,
                caller=caller_of_command(),
                trigger=Run.Trigger.COMMAND,
            )
        except errors.StateManagerError as error:
            raise CommandError(_told(error)) from None
        self.stdout.write(run.run_id)
        if wait:
            self._wait(run)

    def _graph(self, name: str) -> Graph:
        namespace, _, graph = name.partition("/")
        found = Graph.objects.with_version().filter(namespace__name=namespace, name=graph).first()
        if found is None:
            known = ", ".join(map(str, Graph.objects.with_version()[:10]))
            raise CommandError(
                f"There is no graph {name!r}. {f'Known: {known}.' if known else 'None is stored yet; `demo` brings one.'}"
            )
        return found

    def _dataset(self, graph: Graph, name: str) -> Dataset:
        if stored := Dataset.objects.filter(namespace=graph.namespace, name=name).first():
            return stored
        with datasets.sources_at(Path(name)) as sources:
            return datasets.load(graph.namespace, Path(name).stem, sources, origin=str(name))

    def _wait(self, run: Run) -> None:
        executor: Executor | None = None

        def meanwhile() -> None:
            """Without a living cluster, now or later, the run is executed here."""
            nonlocal executor
            if executor is None and not Cluster.objects.alive().exists():
                self.stderr.write("No cluster is running, so this command executes the run itself.")
                executor = Executor()
            if executor:
                executor.drain()
            waiting = (
                State.objects.filter(answer.WAITS, run=run).first()
                if run.status == statuses.PAUSED
                else None
            )
            if waiting:
                question = waiting.waiting_for["question"]
                raise CommandError(
                    f"{waiting.identifier} waits for an answer: {question}\nPOST it to /runs/{run.run_id}/states/{waiting.pk}/answer"
                )

        watch(run, meanwhile)
        if run.status != statuses.COMPLETED:
            raise CommandError(f"The run ended {run.status}: {run.error_message}", returncode=1)


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise CommandError(f"--input takes KEY=VALUE; it got {text!r}.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _told(error: errors.StateManagerError) -> str:
    return "\n  ".join([str(error), *(str(each) for each in error.extra.get("errors", []))])
