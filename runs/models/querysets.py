"""Named reads of what runs and what ran, and `move()`, the one way to a new status outside the hot statements."""

from collections.abc import Iterable
from typing import Any, Self

from django.db import models
from django.db.models.functions import RowNumber

from graphs.models.querysets import InNamespaces
from runs.core import paths, statuses


class RunQuerySet(InNamespaces):
    def move(self, to: str, **values: Any) -> int:
        """Set the status where the move is legal; how many rows moved is the answer."""
        return self.filter(status__in=statuses.RUN_MOVES[to]).update(status=to, **values)

    def active(self) -> Self:
        return self.filter(status__in=statuses.ACTIVE_RUNS, archived_at=None)

    def for_wire(self) -> Self:
        """With everything that the API's run shape shows, whatever the number of rows."""
        return self.select_related("namespace", "graph", "version").prefetch_related(
            models.Prefetch(
                "artifacts",
                queryset=_artifacts().filter(kind="file").order_by("id"),
                to_attr="files",
            )
        )


class StateQuerySet(models.QuerySet[Any]):
    def move(self, to: str, **values: Any) -> int:
        """Set the status where the move is legal; how many rows moved is the answer."""
        return self.filter(status__in=statuses.STATE_MOVES[to]).update(status=to, **values)

    def summary(self) -> dict[str, int]:
        """How many there are of each status."""
        return dict(self.values_list("status").annotate(models.Count("pk")).order_by())

    def fill_inputs(self, states: Iterable[Any]) -> None:
        """Give the siblings of fan-outs, which are stored without inputs, those of the first one; one query, if there are any."""
        bare = {
            (state.run_id, state.identifier, paths.first_sibling(state.path)): None
            for state in states
            if state.inputs is None
        }
        if not bare:
            return
        first = self.filter(
            run_id__in={key[0] for key in bare},
            identifier__in={key[1] for key in bare},
            path__in={key[2] for key in bare},
        )
        found = {
            key[:3]: key[3] for key in first.values_list("run_id", "identifier", "path", "inputs")
        }
        for state in states:
            if state.inputs is None:
                state.inputs = found.get(
                    (state.run_id, state.identifier, paths.first_sibling(state.path))
                )


class LogQuerySet(models.QuerySet[Any]):
    def tails(self, run_ids: Iterable[int], lines: int) -> dict[int, list[Any]]:
        """The last lines of each run, oldest first, in one query."""
        run_ids = list(run_ids)
        newest = models.Window(RowNumber(), partition_by="run_id", order_by=models.F("id").desc())
        found: dict[int, list[Any]] = {run_id: [] for run_id in run_ids}
        for line in (
            self.filter(run_id__in=run_ids)
            .annotate(age=newest)
            .filter(age__lte=lines)
            .order_by("id")
        ):
            found[line.run_id].append(line)
        return found


def _artifacts() -> models.QuerySet[Any]:
    from runs.models import Artifact

    return Artifact.objects.all()
