"""What the viewsets of runs share: finding the run of the path, and its last log lines."""

from collections.abc import Collection, Sequence

from graphs.api.viewsets import ViewSet
from graphs.definition import redaction
from runs.api.lookups import run_of
from runs.api.serializers import TAIL_LINES, RunSerializer
from runs.models import LogLine, Run
from runs.models.querysets import RunQuerySet


class OfRunViewSet(ViewSet):
    """A run, or what belongs to the run that the path names."""

    every_query: Collection[str] = ("namespace",)

    def run(self, runs: RunQuerySet | None = None) -> Run:
        """The run of the path. Raises NotFound, Gone or Conflict (see `run_of`)."""
        return run_of(self.caller, self.request, self.kwargs["run_id"], runs)

    def sees_payloads(self, run: Run) -> bool:
        return self.caller.can("payloads", run.namespace_id)

    def runs_json(self, runs: Sequence[Run]) -> RunSerializer:
        tails = LogLine.objects.tails([run.pk for run in runs], TAIL_LINES)
        for run in runs:
            redaction.hide([run, *tails[run.pk]], self.sees_payloads(run))
        return RunSerializer(runs, many=True, context={"tails": tails})

    def run_json(self, run: Run) -> RunSerializer:
        tails = LogLine.objects.tails([run.pk], TAIL_LINES)
        redaction.hide([run, *tails[run.pk]], self.sees_payloads(run))
        return RunSerializer(run, context={"tails": tails})
