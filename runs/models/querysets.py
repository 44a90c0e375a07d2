"""Reads of runs and their rows that have a name, and `move()`, which changes their status.

Statuses change only here and in the hot statements of `runs.engine`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, Self

from django.db import models
from django.db.models.functions import RowNumber

from graphs.definition.types import Json
from graphs.models.querysets import InNamespaces
from runs.core import paths, statuses

if TYPE_CHECKING:
    from runs.models.artifact import Artifact
    from runs.models.log_line import LogLine
    from runs.models.state import State  # noqa: F401 (the base class below names it)

StatePlace = tuple[int, str, str]  # run pk, node, path


class WithInputs(Protocol):
    """A state, or the row of a list that shows one."""

    inputs: Json

    @property
    def run_id(self) -> int: ...
    @property
    def identifier(self) -> str: ...
    @property
    def path(self) -> str: ...


class RunQuerySet(InNamespaces):
    def move(self, to: str, **values: Any) -> int:
        """Set the status of those runs for which the move is legal. Returns their number."""
        return self.filter(status__in=statuses.RUN_MOVES[to]).update(status=to, **values)

    def active(self) -> Self:
        return self.filter(status__in=statuses.ACTIVE_RUNS, archived_at=None)

    def for_wire(self) -> Self:
        """With everything that the API shows of a run, in a fixed number of queries."""
        files = _artifacts().filter(kind="file").order_by("id")
        return self.select_related("namespace", "graph", "version").prefetch_related(
            models.Prefetch("artifacts", queryset=files, to_attr="files")
        )


class StateQuerySet(models.QuerySet["State"]):
    def move(self, to: str, **values: Any) -> int:
        """Set the status of those states for which the move is legal. Returns their number."""
        return self.filter(status__in=statuses.STATE_MOVES[to]).update(status=to, **values)

    def summary(self) -> dict[str, int]:
        """The number of states in each status."""
        return dict(self.values_list("status").annotate(models.Count("pk")).order_by())

    def fill_inputs(self, states: Iterable[WithInputs]) -> None:
        """Give these states their inputs if they are stored with a sibling.

        Only the first sibling of a fan-out is stored with inputs. One query reads those that are
        missing.
        """
        without_inputs = [state for state in states if state.inputs is None]
        if not without_inputs:
            return
        places = {_first_sibling(state) for state in without_inputs}
        # This may match more states than the places; the dictionary below sorts them out.
        siblings = self.filter(
            run_id__in={run_id for run_id, _, _ in places},
            identifier__in={identifier for _, identifier, _ in places},
            path__in={path for _, _, path in places},
        )
        inputs = {
            (run_id, identifier, path): values
            for run_id, identifier, path, values in siblings.values_list(
                "run_id", "identifier", "path", "inputs"
            )
        }
        for state in without_inputs:
            state.inputs = inputs.get(_first_sibling(state))


def _first_sibling(state: WithInputs) -> StatePlace:
    return state.run_id, state.identifier, paths.first_sibling(state.path)


class LogQuerySet(models.QuerySet["LogLine"]):
    def tails(self, run_ids: Iterable[int], lines: int) -> dict[int, list["LogLine"]]:
        """The last lines of each run, oldest first, in one query."""
        tails: dict[int, list[LogLine]] = {run_id: [] for run_id in run_ids}
        newest_first = models.Window(
            RowNumber(), partition_by="run_id", order_by=models.F("id").desc()
        )
        numbered = self.filter(run_id__in=list(tails)).annotate(number=newest_first)
        for line in numbered.filter(number__lte=lines).order_by("id"):
            tails[line.run_id].append(line)
        return tails


def _artifacts() -> "models.QuerySet[Artifact]":
    from runs.models.artifact import Artifact  # the models import this module

    return Artifact.objects.all()
