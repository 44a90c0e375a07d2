"""What a program of external workers does when it starts: register nodes and put graph templates.

Both can be repeated at any time; repeating one with the same content changes nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from graphs.auth import acts
from graphs.auth.callers import SYSTEM, Caller
from graphs.definition import cron, errors, names, redaction
from graphs.definition.plan import BUILTIN
from graphs.definition.types import Json
from graphs.models import CronTrigger, Graph, Namespace, RegisteredNode, clock
from graphs.services import exosphere_template, publish, secrets
from graphs.services.kinds import Kinds

Schedule = tuple[str, str]  # a cron expression and a time zone
_UPDATED = ("executor", "inputs_schema", "outputs_schema", "secrets", "runtime_name", "updated_at")


def register(
    namespace: Namespace,
    runtime_name: str,
    nodes: Collection[Mapping[str, Json]],
    caller: Caller = SYSTEM,
) -> None:
    """Create or update the nodes of a worker, all of them or none.

    Graphs that had problems because these nodes were missing are checked again. Raises Conflict for
    the namespace of the built-in nodes, and Malformed for a name with control characters or of two
    of the nodes.
    """
    if namespace.name == BUILTIN:
        raise errors.Conflict(
            f"The namespace {BUILTIN!r} is reserved for the built-in nodes. Choose another one."
        )

    now = timezone.now()
    by_name = {node["name"]: node for node in nodes}
    if len(by_name) < len(nodes):
        raise errors.Malformed("Each node is registered once; two of them have the same name.")
    for name in by_name:
        if not name.isprintable():
            raise errors.Malformed(f"A node's name has no control characters; {name!r:.80} has.")
    rows = [
        RegisteredNode(
            namespace=namespace,
            executor=RegisteredNode.Executor.WORKER,
            runtime_name=runtime_name,
            created_at=now,
            updated_at=now,
            **by_name[name],
        )
        for name in sorted(by_name)  # one order for all, so that two programs can't deadlock
    ]
    with transaction.atomic():
        RegisteredNode.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["namespace", "name"], update_fields=_UPDATED
        )
        detail = f"{runtime_name}: {', '.join(sorted(by_name))}"
        acts.record(caller, "register_nodes", namespace.pk, detail)
        publish.recheck_graphs_with(namespace, by_name)
        # Once more after the commit: a graph that was put in the meantime saw none of these nodes,
        # and this transaction didn't see the graph.
        transaction.on_commit(lambda: publish.recheck_graphs_with(namespace, by_name))


@transaction.atomic
def put_graph(
    namespace: Namespace,
    name: str,
    template: Mapping[str, Json],
    values: Mapping[str, str],
    schedules: Sequence[Schedule],
    caller: Caller,
) -> Graph:
    """Make a template the current version of a graph, which is created if necessary.

    `values` and `schedules` replace the secrets and cron triggers that an earlier template brought.

    Raises InvalidGraph with every problem that the template has by itself. Problems that depend on
    registered nodes and secrets are stored with the version instead, and no run can start from it
    until they are gone.
    """
    name = names.checked("graph", name)
    former = Graph.objects.with_version().filter(namespace=namespace, name=name).first()
    former_version = former.current if former else None
    former_definition = former_version.definition if former_version else exosphere_template.EMPTY
    definition = redaction.definition_restored(
        exosphere_template.definition_of(template, former_definition), former_definition
    )

    kinds = Kinds(namespace.name, definition, caller, every_input=True)
    problems = publish.find_problems(definition, kinds, {*values, *_manual_secrets(former)})
    refused = [
        *(problem for problem in problems if not problem.registry),
        *exosphere_template.problems(template["nodes"]),
        *kinds.foreign(definition),
    ]
    if refused:
        raise errors.InvalidGraph(
            publish.summary(refused), errors=[problem.as_json() for problem in refused]
        )

    graph = publish.store_version(
        namespace, name, kinds.resolved(definition), problems, caller, by_template=True
    )
    secrets.replace(graph, values)
    set_triggers(graph, schedules, clock.now())
    acts.record(caller, "put_graph", namespace.pk, _summary(graph, values, schedules))
    if problems:
        # The missing nodes may have been registered while this transaction was open.
        transaction.on_commit(lambda: publish.recheck(graph))
    return graph


def _summary(graph: Graph, names: Iterable[str], schedules: Iterable[Schedule]) -> str:
    """What a template brought, with the names of its secrets and without their values."""
    expressions = [expression for expression, _ in schedules]
    parts = {"secrets": sorted(names), "schedules": expressions}
    listed = [f"{what} {', '.join(items)}" for what, items in parts.items() if items]
    return "; ".join([str(graph), *listed])


def _manual_secrets(graph: Graph | None) -> Iterable[str]:
    """The names of the secrets that didn't come with a template."""
    if graph is None:
        return ()
    return graph.secrets.filter(by_template=False).values_list("name", flat=True)


@transaction.atomic
def set_secret(graph: Graph, name: str, value: str | None, caller: Caller = SYSTEM) -> Graph:
    """Set one secret of a graph, or delete it (None), and check the graph again.

    Raises NotFound if the graph is gone, and Malformed for an empty value or an invalid name.
    """
    graph = publish.lock_graph(graph)
    if value is None:
        graph.secrets.filter(name=name.replace("\x00", "")).delete()
    else:
        secrets.put(graph, name, value)
    action = "delete_secret" if value is None else "set_secret"
    acts.record(caller, action, graph.namespace_id, f"{graph}: {name}")
    publish.recheck(graph)
    return graph


def set_triggers(graph: Graph, schedules: Iterable[Schedule], now: datetime) -> None:
    """Replace the cron triggers that the former template of a graph brought.

    Triggers that were made by hand stay. A trigger that already exists keeps its next time.
    """
    new = set(schedules)
    for trigger in graph.triggers.all():
        schedule = (trigger.expression, trigger.time_zone)
        if schedule in new:
            new.remove(schedule)
        elif trigger.by_template:
            trigger.delete()

    triggers = [
        CronTrigger(
            graph=graph,
            expression=expression,
            time_zone=time_zone,
            by_template=True,
            next_at=cron.next_time(expression, time_zone, now),
        )
        for expression, time_zone in sorted(new)
    ]
    CronTrigger.objects.bulk_create(triggers, ignore_conflicts=True)
