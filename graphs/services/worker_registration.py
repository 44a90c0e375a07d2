"""Registering the nodes of external workers, and putting graph templates: what a program does when it starts. Both may be repeated at will."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from graphs.auth.callers import Caller
from graphs.definition import cron, errors, names
from graphs.definition.plan import BUILTIN
from graphs.models import CronTrigger, Graph, Namespace, RegisteredNode
from graphs.services import exosphere_template, publish, secrets

Json = Mapping[str, Any]
_CHANGES = ("executor", "inputs_schema", "outputs_schema", "secrets", "runtime_name", "updated_at")


def register(namespace: Namespace, runtime_name: str, nodes: Iterable[Json]) -> None:
    """Make or change these nodes of a worker, all or none; graphs that waited for them become valid."""
    if namespace.name == BUILTIN:
        raise errors.Conflict(
            f"The namespace {BUILTIN!r} is that of the nodes which run in our own processes."
        )
    now = timezone.now()
    values = {node["name"]: node for node in nodes}
    rows = [
        RegisteredNode(
            namespace=namespace,
            executor=RegisteredNode.Executor.WORKER,
            runtime_name=runtime_name,
            created_at=now,
            updated_at=now,
            **values[name],
        )
        for name in sorted(values)  # in one order, so that two programs never wait for each other
    ]
    with transaction.atomic():
        RegisteredNode.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["namespace", "name"], update_fields=_CHANGES
        )
        publish.reconsider(namespace, values)
        transaction.on_commit(
            lambda: publish.reconsider(namespace, values)
        )  # for graphs that were put while this wasn't to be seen


@transaction.atomic
def put_graph(
    namespace: Namespace,
    name: str,
    template: Json,
    values: Mapping[str, str],
    triggers: Sequence[tuple[str, str]],
    caller: Caller,
) -> Graph:
    """Make a template the graph's current version, with these secrets and cron triggers instead of those that it has.

    Raises InvalidGraph with all mistakes of its structure, and nothing is stored. What doesn't fit the registered nodes or the secrets is kept
    with the version, which then can't be run.
    """
    name = names.checked("graph", name)
    former = Graph.objects.with_version().filter(namespace=namespace, name=name).first()
    was = former.current.definition if former and former.current else exosphere_template.EMPTY
    definition = exosphere_template.definition_of(template, was)
    kinds = publish.Kinds(namespace.name, definition, caller, every_input=True)
    others = (
        former.secrets.filter(by_template=False).values_list("name", flat=True) if former else ()
    )
    found = publish.judged(definition, kinds, {*values, *others})
    if wrong := [
        *(each for each in found if not each.registry),
        *exosphere_template.problems(template["nodes"]),
        *kinds.foreign(definition),
    ]:
        raise errors.InvalidGraph(
            publish.summary(wrong), errors=[problem.as_json() for problem in wrong]
        )
    graph = publish.store(
        namespace, name, kinds.resolved(definition), found, caller, by_template=True
    )
    secrets.replace(graph, values)
    set_triggers(graph, triggers, timezone.now())
    if found:
        transaction.on_commit(
            lambda: publish.rejudge(graph)
        )  # its nodes may have been registered at this moment
    return graph


@transaction.atomic
def set_secret(graph: Graph, name: str, value: str | None) -> Graph:
    """Set one secret beside the template's, or take it away (None); the graph is judged again. Raises NotFound and Malformed."""
    graph = publish.locked(graph)
    if value is None:
        graph.secrets.filter(name=name.replace("\x00", "")).delete()
    else:
        secrets.put(graph, name, value)
    publish.rejudge(graph)
    return graph


def set_triggers(graph: Graph, wanted: Iterable[tuple[str, str]], now: datetime) -> None:
    """Make these (expression, time zone) pairs the schedules of the graph's template, instead of those of its former one; others stay.

    One that is there already keeps its next time.
    """
    pairs = set(wanted)
    for trigger in graph.triggers.all():
        if (trigger.expression, trigger.time_zone) in pairs:
            pairs.discard((trigger.expression, trigger.time_zone))
        elif trigger.by_template:
            trigger.delete()
    made = {pair: cron.next_time(*pair, now) for pair in sorted(pairs)}
    CronTrigger.objects.bulk_create(
        (
            CronTrigger(graph=graph, expression=text, time_zone=zone, by_template=True, next_at=at)
            for (text, zone), at in made.items()
        ),
        ignore_conflicts=True,
    )
