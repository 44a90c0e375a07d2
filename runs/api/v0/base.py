"""What the viewsets of `/v0` that work on states and runs share."""

from collections.abc import Sequence

from django.db.models import QuerySet

from graphs.api.v0.base import V0ViewSet
from graphs.definition import errors, redaction
from runs.models import Run
from runs.models.querysets import RunQuerySet
from runs.queries.lists import StateRow


class OfRunViewSet(V0ViewSet):
    def runs(self) -> QuerySet[Run]:
        """The runs of the namespace."""
        if self.namespace is None:
            return Run.objects.none()
        return Run.objects.filter(namespace=self.namespace)

    def find_run(self) -> Run | None:
        """The run that the path names, if the namespace has it."""
        if self.namespace is None:
            return None
        runs: RunQuerySet = Run.objects.select_related("graph", "version", "namespace")
        run_id = self.kwargs["run_id"].replace("\x00", "")
        return runs.filter(namespace=self.namespace, run_id=run_id).first()

    def run(self) -> Run:
        """The run that the path names. Raises NotFound."""
        run = self.find_run()
        if run is None:
            run_id = self.kwargs["run_id"]
            raise errors.NotFound(
                f"There is no run {run_id[:200]!r} in namespace {self.name[:100]!r}."
            )
        return run

    def hide_payloads(self, states: Sequence[StateRow]) -> None:
        """Remove the payloads if the caller may not see them."""
        may_see = self.namespace is not None and self.caller.can("payloads", self.namespace.pk)
        redaction.hide(states, may_see)
