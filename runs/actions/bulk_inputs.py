"""The changed inputs of a bulk rerun, which are merged over those of each run.

They are checked for all runs before any is rerun: half of a selection that runs with wrong inputs
is worse than none.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice

from django.db.models import QuerySet

from graphs.auth.callers import Caller
from graphs.definition import errors
from graphs.definition.json_schema import SchemaValidator
from graphs.definition.plan import Plan
from graphs.definition.types import Json, JsonObject
from graphs.models import GraphVersion
from runs.actions import sent_inputs
from runs.engine import run_inputs
from runs.models import Run
from runs.queries.drivers import rerun_for

MAX_RUNS = 10_000  # that are rerun with changed inputs in one operation
MAX_PROBLEMS = 20
ROWS_AT_ONCE = 200


def merged(run: Run, inputs: Mapping[str, Json], caller: Caller) -> JsonObject:
    """The inputs with which the run is rerun: its own, but for those that are given.

    A thread that a node of ours runs is rerun with the run of that node, so it has that run's.
    """
    given = rerun_for(run).initial_data
    return {**given, **sent_inputs.restored(inputs, given, caller, run.namespace_id)}


def check(
    runs: QuerySet[Run], total: int, inputs: Mapping[str, Json], newest: bool, caller: Caller
) -> None:
    """Raises Malformed, with the problem of each run, if the inputs don't fit the graphs' schemas.

    `newest` says that the runs are rerun on the newest versions of their graphs.
    """
    if total > MAX_RUNS:
        raise errors.Malformed(
            f"{total:,} runs match. One operation changes the inputs of at most {MAX_RUNS:,}."
        )
    problems = list(islice(_problems(runs, inputs, newest, caller), MAX_PROBLEMS))
    if problems:
        raise errors.Malformed(
            "The inputs don't fit the schemas of all graphs, so no run was started.",
            errors=problems,
        )


def _problems(
    runs: QuerySet[Run], inputs: Mapping[str, Json], newest: bool, caller: Caller
) -> Iterator[str]:
    columns = ("run_id", "namespace", "initial_data", "version", "graph__current", "origin")
    checks: dict[int, _Check] = {}
    selected = runs.order_by("-pk").select_related("graph").only(*columns)
    for run in map(rerun_for, selected.iterator(chunk_size=ROWS_AT_ONCE)):
        version = run.graph.current_id if newest and run.graph else run.version_id
        if version is None:  # an outside program drives it, and no graph declares its inputs
            continue
        check_of_version = checks.setdefault(version, _Check(version))
        found = check_of_version.problems(merged(run, inputs, caller))
        if found:
            sees = caller.can("payloads", run.namespace_id)
            yield f"{run.run_id}: {', '.join(found) if sees else 'they do not fit'}"


class _Check:
    """The defaults and the schema of a version's inputs, which are read once."""

    def __init__(self, version: int) -> None:
        self.version = version

    @cached_property
    def plan(self) -> Plan:
        return GraphVersion.objects.only("checksum").get(pk=self.version).plan

    @cached_property
    def validator(self) -> SchemaValidator | None:
        schema = self.plan.inputs_schema
        return None if schema is None else SchemaValidator(schema)

    def problems(self, inputs: Mapping[str, Json]) -> list[str]:
        if self.validator is None:
            return []
        return run_inputs.problems(run_inputs.with_defaults(inputs, self.plan), self.validator)
