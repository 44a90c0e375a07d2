"""Builds a small world for the pages to show.

It has runs of every status, with failures, retries, a question, reruns, labels, files and logs.
"""

import io
from datetime import timedelta
from functools import partial

from django.contrib.auth.models import User
from django.db.models import F
from django.utils import timezone

from graphs.auth.callers import SYSTEM, Caller, caller_of_user
from graphs.definition import edits
from graphs.models import Dataset, Graph, Namespace, NamespaceMembership
from graphs.nodes.base import registry
from graphs.services import dataset_files, datasets, drafts, publish
from runs.actions import annotate
from runs.actions.recurring import Recurrence, change, repeat
from runs.actions.rerun import RerunOptions, rerun
from runs.engine import control
from runs.engine.executor import Executor
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.external import updates
from runs.models import Run, State

ORDERS = {
    "nodes": [
        {"id": "open", "kind": "noop", "label": "Open the shop"},
        {
            "id": "fetch",
            "kind": "test.each",
            "label": "Fetch orders",
            "data": {"inputs": {"items": [{"order": number} for number in range(1, 6)]}},
        },
        {
            "id": "check",
            "kind": "test.emit",
            "label": "Check stock",
            "data": {"inputs": {"rows": 40}},
        },
        {
            "id": "price",
            "kind": "noop",
            "label": "Compute prices",
            "data": {"inputs": {"value": "${{ fetch.outputs.value }}"}},
        },
        {
            "id": "invoice",
            "kind": "test.fail",
            "label": "Write invoices",
            "data": {"inputs": {"message": "ConnectionError: billing.example did not answer"}},
        },
        {
            "id": "report",
            "kind": "noop",
            "label": "Send report",
            "data": {"unites": {"identifier": "open"}},
        },
    ],
    "edges": [
        {"from": "open", "to": "fetch"},
        {"from": "fetch", "to": "check"},
        {"from": "fetch", "to": "price"},
        {"from": "check", "to": "invoice"},
        {"from": "price", "to": "invoice"},
        {"from": "invoice", "to": "report"},
    ],
    "inputs": {
        "type": "object",
        "properties": {
            "customer": {"type": "string", "title": "Customer"},
            "limit": {"type": "integer", "minimum": 1},
        },
    },
}
STEPS = {
    "nodes": [
        {"id": name, "kind": "log", "data": {"inputs": {"message": f"{name} is done"}}}
        for name in ("load", "clean", "join", "train", "publish")
    ],
    "edges": [
        {"from": a, "to": b}
        for a, b in (
            ("load", "clean"),
            ("load", "join"),
            ("clean", "train"),
            ("join", "train"),
            ("train", "publish"),
        )
    ],
}
APPROVAL = {
    "nodes": [
        {"id": "draft", "kind": "noop"},
        {
            "id": "approve",
            "kind": "approval",
            "data": {"inputs": {"question": "Publish the draft?"}},
        },
        {"id": "out", "kind": "noop"},
    ],
    "edges": [{"from": "draft", "to": "approve"}, {"from": "approve", "to": "out"}],
}


def build(finished: int = 60) -> dict[str, Run]:
    """Create users, graphs and runs; return the runs that tests open, by name.

    `finished` is the number of completed runs beside the named ones.
    """
    registry.store()
    shop = Namespace.objects.get_or_create(name="shop")[0]
    lab = Namespace.objects.get_or_create(name="lab")[0]
    ann = User.objects.create_superuser("ann", password="ann")
    ben = User.objects.create_user("ben", password="ben", is_staff=True)
    NamespaceMembership.objects.create(namespace=shop, user=ben, role="reader")
    orders = publish.publish_graph(shop, "orders", ORDERS)
    steps = publish.publish_graph(lab, "nightly-training", STEPS)
    approval = publish.publish_graph(shop, "approval", APPROVAL)
    caller = caller_of_user(ann, "page")
    drain = partial(_drain, Executor(threads=False))

    def start(graph: Graph, name: str, **options: object) -> Run:
        return start_run(graph, RunOptions(name=name, **options), caller=caller)  # type: ignore[arg-type]

    options = RunOptions(name="Export of orders")
    exported = drain(start_run(_export(shop), options, _dataset(shop), caller=caller))
    _edit_draft(exported.graph, caller)
    for number in range(finished):
        labels = {"team": "research" if number % 3 else "ops"}
        drain(start(steps, f"Training of night {number + 1}", labels=labels))

    inputs = {"customer": "ACME", "limit": 5}
    failed = drain(start(orders, "Orders of Monday", inputs=inputs, labels={"team": "sales"}))
    for expression in ("0 6 * * 1-5", "0 12 * * *"):
        every = repeat(failed, caller, Recurrence(expression, "Europe/Berlin"))
    change(every, caller, enabled=False)
    again = drain(rerun(failed, caller, RerunOptions(failed=True)))
    cancelled = control.cancel_run(start(orders, "Orders of Tuesday"), caller)
    archived = annotate.archive_run(drain(start(steps, "An old training")), caller)
    waiting = drain(start(approval, "Release notes"))
    outside = _external_run(lab, caller)
    recovered = drain(start(orders, "Orders of Wednesday", inputs={"customer": "Initech"}))
    Run.objects.filter(pk=rerun(recovered, SYSTEM).pk).update(
        status="completed", finished_at=timezone.now(), progress=100
    )
    paused = control.pause_run(start(steps, "Paused by hand"), caller)
    queued = start(orders, "Orders of today", inputs={"customer": "Umbrella"})
    _spread()
    return {
        "exported": exported,
        "failed": failed,
        "again": again,
        "cancelled": cancelled,
        "archived": archived,
        "waiting": waiting,
        "outside": outside,
        "paused": paused,
        "queued": queued,
        "recovered": recovered,
        "completed": Run.objects.filter(status="completed", graph=steps).latest("pk"),
    }


def _drain(executor: Executor, run: Run) -> Run:
    """Execute all ready states, then return the run as it is stored."""
    while executor.drain():
        pass
    run.refresh_from_db()
    return run


def _edit_draft(graph: Graph, caller: Caller) -> None:
    """Add a node of an unknown kind to the draft, which can't be published with it."""
    drafts.apply(
        graph,
        drafts.Base(1, 0),
        lambda definition: edits.add(definition, "no.such.node", after="pack"),
        caller,
    )
    unknown = {"id": "odd", "kind": "no.such.node", "data": {"inputs": {"kept": 1}}}
    drafts.apply(
        graph,
        drafts.Base(1, 1),
        lambda definition: edits.change(definition, "node", unknown),
        caller,
    )


def _external_run(lab: Namespace, caller: Caller) -> Run:
    options = RunOptions(
        run_id="thread_assistant_7",
        name="Support assistant",
        sop="Answer tickets",
        inputs={"ticket": 4711},
    )
    run = start_outside(lab, options, caller)
    outputs = {"found": 3, "<b>bold</b>": "\u202eright to left"}
    updates.mark(run, "search", "completed", SYSTEM, outputs)
    updates.mark(run, "answer", "started", SYSTEM)
    return run


def _dataset(shop: Namespace) -> Dataset:
    rows = "".join(
        f"{number},customer {number % 7},{number * 3 % 100},{number / 4}\n"
        for number in range(1, 121)
    )
    return datasets.load(
        shop,
        "orders of November",
        [
            dataset_files.Source(
                "orders.csv", io.BytesIO(f"order,customer,items,total\n{rows}".encode())
            )
        ],
    )


def _export(shop: Namespace) -> Graph:
    nodes = [
        {
            "id": "read",
            "kind": "dataset.read",
            "label": "Read the orders",
            "data": {"inputs": {"table": "orders"}},
        },
        {
            "id": "large",
            "kind": "rows.filter",
            "label": "Large orders",
            "data": {"inputs": {"table": "${{ read.outputs.table }}", "where": "row.items > 50"}},
        },
        {
            "id": "export",
            "kind": "table.export",
            "label": "large.csv",
            "data": {"inputs": {"table": "${{ large.outputs.table }}", "name": "large.csv"}},
        },
        {
            "id": "pack",
            "kind": "zip",
            "label": "Pack it",
            "data": {"inputs": {"files": ["${{ export.outputs.file }}"]}},
        },
    ]
    edges = [
        {"from": a, "to": b}
        for a, b in (("read", "large"), ("large", "export"), ("export", "pack"))
    ]
    return publish.publish_graph(shop, "export", {"nodes": nodes, "edges": edges})


def _spread() -> None:
    """Date the runs back, as if 17 minutes had passed between them."""
    State.objects.filter(status="CREATED", due_at__isnull=False).update(
        due_at=timezone.now() - timedelta(minutes=1)
    )
    runs = list(Run.objects.order_by("-pk").values_list("pk", flat=True))
    for position, pk in enumerate(runs):
        age = timedelta(minutes=17 * position)
        Run.objects.filter(pk=pk).update(created_at=F("created_at") - age)
