"""The audit trail by place: what each mutating route, page and admin form leaves in it.

The places come from the URL map and from the admin's registry. A place that is in none of the
tables here fails, so a new one can't be forgotten.
"""

import json
import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, RequestFactory
from django.urls import get_resolver, reverse
from rest_framework_simplejwt.tokens import RefreshToken

from graphs.auth import api_keys
from graphs.auth.callers import SYSTEM, caller_of_user
from graphs.models import (
    ApiKey,
    CronTrigger,
    Dataset,
    Graph,
    GraphVersion,
    NamespaceMembership,
)
from graphs.services import drafts, worker_registration
from runs.actions import bulk, bulk_runner, graph_schedules, notification_rules
from runs.actions.recurring import Recurrence, repeat
from runs.engine import control
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.external import queue
from runs.models import (
    Artifact,
    AuditEntry,
    Checkpoint,
    NotificationRule,
    RunNote,
    RunTemplate,
    SavedView,
)

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
CANARY = "canary-of-a-secret"
GRAPH = {"nodes": [{"id": "n", "kind": "noop"}], "edges": []}
WORK = "work of the engine: states, attempts and log lines of the run are its record"
PROGRAM = "work of an outside program: its reports leave entries, and the log names its holders"
QUESTION = "changes nothing"
OWN = "a setting of the user's own page"

# Places that leave no entry, with the reason.
SILENT = {
    "POST token/refresh": "a login that goes on; the login and the end of it are recorded",
    "POST graphs/<str:graph_id>/validate": QUESTION,
    "POST v0/namespace/<str:ns>/states/enqueue": WORK,
    "POST v0/namespace/<str:ns>/states/report": WORK,
    "POST admin/run-manager/columns/": OWN,
    "POST admin/run-manager/views/<int:pk>/default/": OWN,
    "POST admin/run-manager/saved-views/<str:view>/default": OWN,
    "DELETE admin/run-manager/saved-views/<str:view>/default": OWN,
    "POST admin/run-manager/compare/": QUESTION,
    "POST admin/run-manager/choices/<choice:kind>/": QUESTION,
    "POST admin/graphs/graph/<int:pk>/flow/check": QUESTION,
    "POST healthz": QUESTION,
    "POST queue/claim": PROGRAM,
    "POST queue/<str:run_id>/heartbeat": PROGRAM,
    "POST queue/<str:run_id>/release": PROGRAM,
    "POST runs": QUESTION,
    "POST ": "a redirect",
    **{
        f"POST v0/namespace/<str:ns>/{states}/<str:state>/{verb}": WORK
        for states in ("state", "states")
        for verb in ("errored", "executed", "heartbeat", "prune", "release", "re-enqueue-after")
    },
}


@dataclass
class Act:
    """A request and the entries that it leaves, as "action: run or detail".

    In texts, `{name}` is replaced with the world's attribute of this name. `of` gives the values
    for the path. An act `as_person` is one that no API key may do.
    """

    entries: list[str]
    body: Any = None
    of: dict[str, str] = field(default_factory=dict)
    as_person: bool = False


def acts_on_run(action, run_id, **of):
    return Act([f"{action}: {run_id}"], {}, {"run_id": run_id, "thread_id": run_id, **of})


TEMPLATE_FORM = {"name": "other", "expression": "0 6 * * *", "time_zone": "UTC"}
API = {
    "POST token": Act(["login: from 127.0.0.1"], {"username": "root", "password": PASSWORD}),
    "POST token/revoke": Act(["revoke_token: token {jti}…"], {"refresh": "{refresh}"}),
    "POST datasets": Act(["load_dataset: alpha/new"], "upload"),
    "DELETE datasets/<str:dataset_id>": Act(["delete_dataset: alpha/d"]),
    "POST graphs": Act(
        ["publish: alpha/new version 1"], {**GRAPH, "name": "new", "namespace": "alpha"}
    ),
    "PUT graphs/<str:graph_id>": Act(
        ["rename_graph: alpha/g → h", "publish: alpha/h version 3"], {**GRAPH, "name": "h"}
    ),
    "DELETE graphs/<str:graph_id>": Act(["delete_graph: alpha/g with 1 runs"]),
    "PUT graphs/<str:graph_id>/draft": Act(["change_draft: alpha/g revision 1"], GRAPH),
    "POST graphs/<str:graph_id>/draft/publish": Act(
        ["publish: alpha/draft version 1"], {}, {"graph_id": "{draft}"}
    ),
    "POST graphs/<str:graph_id>/run": Act(["start: new"], {"run_id": "new"}),
    "POST graphs/<str:graph_id>/runs": Act(
        ["start: new", "start: other"], {"runs": [{"run_id": "new"}, {"run_id": "other"}]}
    ),
    "DELETE runs/<str:run_id>": acts_on_run("delete", "done"),
    "POST runs/<str:run_id>/cancel": acts_on_run("cancel", "active"),
    "POST runs/<str:run_id>/pause": acts_on_run("pause", "active"),
    "POST runs/<str:run_id>/resume": acts_on_run("resume", "paused"),
    "POST runs/<str:run_id>/retry": Act(
        ["retry: failed what failed: 1 states"], {}, {"run_id": "failed"}
    ),
    "PUT runs/<str:run_id>/checkpoint": Act(
        ["document: outside running", "report: outside running"],
        {"run_id": "outside", "status": "running"},
        {"run_id": "outside"},
    ),
    "POST runs/<str:run_id>/mark": Act(
        ["mark: outside a: started", "report: outside running"],
        {"node": "a", "event": "started"},
        {"run_id": "outside"},
    ),
    "POST runs/<str:run_id>/states/<str:state>/answer": Act(
        ["answer: asking q"], 1, {"run_id": "asking", "state": "{waiting}"}
    ),
    "POST runs/<str:run_id>/notes": Act(["note: done"], {"text": CANARY}, {"run_id": "done"}),
    "DELETE runs/<str:run_id>/notes/<str:note>": Act(
        ["delete_note: done by ann"], {}, {"run_id": "done", "note": "{note}"}
    ),
    "DELETE runs/<str:run_id>/checkpoints/<str:checkpoint_id>": Act(
        ["delete_checkpoint: thread c1"], {}, {"run_id": "thread", "checkpoint_id": "c1"}
    ),
    "POST runs/<str:run_id>/checkpoints/<str:checkpoint_id>/fork": Act(
        ["fork: new from thread"],
        {"thread_id": "new"},
        {"run_id": "thread", "checkpoint_id": "c1"},
    ),
    "PATCH recurring-reruns/<str:recurring>": Act(
        ["change_recurring: done 0 6 * * * (UTC), paused"],
        {"enabled": False},
        {"recurring": "{recurring}"},
    ),
    "DELETE recurring-reruns/<str:recurring>": Act(
        ["delete_recurring: done 0 6 * * * (UTC)"], {}, {"recurring": "{recurring}"}
    ),
    "POST templates": Act(["save_template: alpha/new"], {"name": "new", "graph_id": "{graph}"}),
    "PATCH templates/<str:template>": Act(["change_template: alpha/new"], {"name": "new"}),
    "DELETE templates/<str:template>": Act(["delete_template: alpha/t"]),
    "POST templates/<str:template>/clone": Act(["save_template: alpha/new"], {"name": "new"}),
    "POST templates/<str:template>/launch": Act(["start: new"], {"run_id": "new"}),
    "POST admin/run-manager/runs/bulk-delete": Act(["delete: done"], {"thread_ids": ["done"]}),
    "DELETE admin/run-manager/runs": Act(["delete: done"], {"thread_ids": ["done"]}),
    "POST admin/run-manager/bulk-operations": Act(
        ["bulk_archive: 1 runs; tidy"],
        {"action": "archive", "ids": ["done"], "reason": "tidy"},
    ),
    "POST admin/run-manager/bulk-operations/<str:operation>/retry": Act(["bulk_pause: 1 runs; "]),
    "POST admin/run-manager/bulk-operations/<str:operation>/stop": Act(
        ["bulk_stop: Archive of 1 runs"], {}, {"operation": "{queued}"}
    ),
    "POST admin/run-manager/saved-views": Act(
        ["save_view: new, shared"],
        {"name": "new", "query": "", "shared": True, "namespace": "alpha"},
        as_person=True,
    ),
    "DELETE admin/run-manager/saved-views/<str:view>": Act(["delete_view: v, shared"]),
    "POST start": Act(
        ["start: new"],
        {"thread_id": "new", "graph": "alpha/ok", "initial_data": {}, "sop": ""},
    ),
    "POST rerun/<str:thread_id>": Act(
        ["start: done_rerun_1", "rerun: done done_rerun_1: from the start"],
        {},
        {"thread_id": "done"},
    ),
    "POST schedules": Act(
        ["add_schedule: alpha/g 0 6 * * * (UTC)"], {"graph_id": "{graph}", "schedule": "0 6 * * *"}
    ),
    "PATCH schedules/<str:schedule>": Act(
        ["change_schedule: alpha/ok 0 5 * * * (UTC), paused"],
        {"enabled": False},
        {"schedule": "{schedule}"},
    ),
    "DELETE schedules/<str:schedule>": Act(
        ["delete_schedule: alpha/ok 0 5 * * * (UTC)"], {}, {"schedule": "{schedule}"}
    ),
    "POST schedules/<str:schedule>/run": Act(["start: *"], {}, {"schedule": "{schedule}"}),
    "POST notification-rules": Act(
        ["add_rule: alpha: new (mail)"],
        {"namespace": "alpha", "name": "new", "channel": "mail", "target": "ann@example.org"},
    ),
    "PATCH notification-rules/<str:rule>": Act(
        ["change_rule: alpha: told (webhook)"], {"enabled": False}, {"rule": "{rule}"}
    ),
    "DELETE notification-rules/<str:rule>": Act(
        ["delete_rule: alpha: told (webhook)"], {}, {"rule": "{rule}"}
    ),
    "POST notification-rules/<str:rule>/test": Act(
        ["test_rule: alpha: told (webhook)"], {}, {"rule": "{rule}"}
    ),
    "POST inbox/answers": Act(
        ["answer: asking q"], {"answers": [{"state_id": "{waiting}", "answer": 1}]}
    ),
    "POST approve/<str:thread_id>": Act(["answer: asking q"], 1, {"thread_id": "asking"}),
}
V0 = "v0/namespace/<str:ns>"
API |= {
    f"PUT {V0}/graph/<str:graph>/secrets/<str:secret>": Act(
        ["set_secret: alpha/g: token"], {"value": CANARY}
    ),
    f"DELETE {V0}/graph/<str:graph>/secrets/<str:secret>": Act(["delete_secret: alpha/g: token"]),
    f"PUT {V0}/graph/<str:graph>": Act(
        [
            "publish: alpha/new version 1",
            "put_graph: alpha/new; secrets key; schedules 0 6 * * *",
        ],
        {
            "secrets": {"key": CANARY},
            "nodes": [
                {"node_name": "Pay", "namespace": "alpha", "identifier": "p", "inputs": {}},
            ],
            "triggers": [{"type": "CRON", "value": {"expression": "0 6 * * *"}}],
        },
        {"graph": "new"},
    ),
    f"DELETE {V0}/graph/<str:graph>": Act(["delete_graph: alpha/g with 1 runs"]),
    f"POST {V0}/graph/<str:graph>/states/create": Act(
        ["create_states: active x"],
        {"run_id": "active", "states": [{"identifier": "x", "inputs": {}}]},
        {"graph": "ok"},
    ),
    f"POST {V0}/graph/<str:graph>/rollback": Act(["roll_back: alpha/g version 1"], {"version": 1}),
    f"POST {V0}/graph/<str:graph>/trigger": Act(["start: new"], {"run_id": "new"}),
    f"POST {V0}/run/<str:run_id>/cancel": acts_on_run("cancel", "active"),
    f"POST {V0}/run/<str:run_id>/pause": acts_on_run("pause", "active"),
    f"POST {V0}/run/<str:run_id>/resume": acts_on_run("resume", "paused"),
    f"POST {V0}/run/<str:run_id>/retry-failed": Act(
        ["retry: failed what failed: 1 states"], {}, {"run_id": "failed"}
    ),
    f"PUT {V0}/nodes": Act(
        ["register_nodes: program: Ship"],
        {
            "runtime_name": "program",
            "nodes": [
                {"name": "Ship", "inputs_schema": {}, "outputs_schema": {}, "secrets": []},
            ],
        },
    ),
    **{
        f"POST {V0}/{states}/<str:state>/manual-retry": Act(
            ["retry: failed a: 1 states"], {"fanout_id": "again"}, {"state": "{failure}"}
        )
        for states in ("state", "states")
    },
}

MANAGER = "admin/run-manager"
FLOW = "admin/graphs/graph/<int:pk>/flow"


def page_act(verb, run):
    return {"verb": verb, "pk": f"{{{run}}}"}


PAGES = {
    f"POST {MANAGER}/views/": [
        Act(["save_view: new, shared"], {"name": "new", "shared": "1", "namespace": "alpha"})
    ],
    f"POST {MANAGER}/views/<int:pk>/delete/": [
        Act(["delete_view: v, shared"], {}, {"pk": "{view}"})
    ],
    f"POST {MANAGER}/bulk/<action:action>/": [
        Act(
            ["bulk_archive: 1 runs; ", "archive: done"],
            {
                "runs": "{done}",
                "run": "{done}",
                "selected": "{done}",
                "confirmed": "1",
                "shown": "1-{done}",
            },
            {"action": "archive"},
        )
    ],
    f"POST {MANAGER}/operations/<int:pk>/<operation_verb:verb>/": [
        Act(["bulk_stop: Archive of 1 runs"], {}, {"pk": "{queued}", "verb": "stop"}),
        Act(["bulk_pause: 1 runs; "], {}, {"pk": "{operation}", "verb": "retry"}),
    ],
    f"POST {MANAGER}/schedules/reruns/<int:pk>/<recurring_verb:verb>/": [
        Act(
            ["change_recurring: done 0 6 * * * (UTC), paused"],
            {},
            {"pk": "{recurring}", "verb": "pause"},
        ),
        Act(
            ["change_recurring: done 0 6 * * * (UTC)"],
            {},
            {"pk": "{recurring}", "verb": "resume"},
        ),
        Act(
            ["delete_recurring: done 0 6 * * * (UTC)"],
            {},
            {"pk": "{recurring}", "verb": "delete"},
        ),
    ],
    f"POST {MANAGER}/run/<int:pk>/<verb:verb>/": [
        Act(["cancel: active"], {}, page_act("cancel", "active")),
        Act(["pause: active"], {}, page_act("pause", "active")),
        Act(["resume: paused"], {}, page_act("resume", "paused")),
        Act(["retry: failed what failed: 1 states"], {}, page_act("retry", "failed")),
        Act(["archive: done"], {}, page_act("archive", "done")),
        Act(["release: held held by key w"], {}, page_act("release", "held")),
    ],
    f"POST {MANAGER}/run/<int:pk>/states/<uuid:state>/answer/": [
        Act(
            ["answer: asking q"],
            {"{waiting}-value_": "1"},
            {"pk": "{asking}", "state": "{waiting}"},
        )
    ],
    f"POST {MANAGER}/schedules/new/": [
        Act(
            ["add_schedule: alpha/g 0 * * * * (UTC)"],
            {"graph": "{graph}", "every": "hour", "time_zone": "UTC"},
        )
    ],
    f"POST {MANAGER}/schedules/<int:pk>/": [
        Act(
            ["change_schedule: alpha/ok */5 * * * * (UTC)"],
            {"every": "minutes", "minutes": "5", "time_zone": "UTC"},
            {"pk": "{schedule}"},
        )
    ],
    f"POST {MANAGER}/schedules/<int:pk>/<schedule_verb:verb>/": [
        Act(
            ["change_schedule: alpha/ok 0 5 * * * (UTC), paused"],
            {},
            {"pk": "{schedule}", "verb": "pause"},
        ),
        Act(
            ["change_schedule: alpha/ok 0 5 * * * (UTC)"],
            {},
            {"pk": "{schedule}", "verb": "resume"},
        ),
        Act(
            ["delete_schedule: alpha/ok 0 5 * * * (UTC)"],
            {},
            {"pk": "{schedule}", "verb": "delete"},
        ),
        Act(["start: *"], {}, {"pk": "{schedule}", "verb": "run"}),
    ],
    f"POST {MANAGER}/inbox/answer/": [
        Act(["answer: asking q"], {"state": "{waiting}", "value_": "1"})
    ],
    f"POST {MANAGER}/run/<int:pk>/checkpoints/<int:checkpoint>/<checkpoint_verb:verb>/": [
        Act(
            ["delete_checkpoint: thread c1"],
            {},
            {"pk": "{thread}", "checkpoint": "{checkpoint}", "verb": "delete"},
        ),
        Act(
            ["fork: * from thread"],
            {},
            {"pk": "{thread}", "checkpoint": "{checkpoint}", "verb": "fork"},
        ),
    ],
    f"POST {MANAGER}/run/<int:pk>/notes/add/": [
        Act(["note: done"], {"text": CANARY}, {"pk": "{done}"})
    ],
    f"POST {MANAGER}/run/<int:pk>/notes/<int:note>/delete/": [
        Act(["delete_note: done by ann"], {}, {"pk": "{done}", "note": "{note}"})
    ],
    f"POST {MANAGER}/rerun/<int:pk>/": [
        Act(
            ["start: done_rerun_1", "rerun: done done_rerun_1: from the start"],
            {"from": "start", "confirmed": "1", "do": "start"},
            {"pk": "{done}"},
        ),
        Act(
            ["repeat_rerun: done 0 7 * * * (UTC)"],
            {"from": "start", "expression": "0 7 * * *"},
            {"pk": "{done}"},
        ),
    ],
    f"POST {MANAGER}/run/<int:pk>/template/": [
        Act(["save_template: alpha/new"], {"name": "new"}, {"pk": "{done}"})
    ],
    f"POST {MANAGER}/templates/<int:pk>/launch/": [Act(["start: *"], {}, {"pk": "{template}"})],
    f"POST {MANAGER}/templates/<int:pk>/edit/": [
        Act(["change_template: alpha/new"], {"name": "new"}, {"pk": "{template}"})
    ],
    f"POST {MANAGER}/templates/<int:pk>/<template_verb:verb>/": [
        Act(["delete_template: alpha/t"], {}, page_act("delete", "template")),
        Act(["save_template: alpha/other"], TEMPLATE_FORM, page_act("clone", "template")),
        Act(["change_template: alpha/t"], TEMPLATE_FORM, page_act("schedule", "template")),
    ],
    "POST admin/flow/new/": [
        Act(["create_graph: alpha/new"], {"namespace": "{namespace}", "name": "new"})
    ],
    "POST admin/flow/datasets/": [Act(["load_dataset: alpha/new"], "upload")],
    "POST admin/flow/datasets/<int:pk>/delete": [
        Act(["delete_dataset: alpha/d"], {}, {"pk": "{dataset}"})
    ],
    f"POST {FLOW}/edit": [
        Act(["change_draft: alpha/g revision 1"], {"op": "delete", "node": "b", "revision": "2-0"})
    ],
    f"POST {FLOW}/publish/": [
        Act(["publish: alpha/draft version 1"], {"revision": "0-1"}, {"pk": "{draft}"})
    ],
    f"POST {FLOW}/history/<int:number>/restore": [
        Act(["change_draft: alpha/g revision 1"], {}, {"pk": "{graph}", "number": "1"})
    ],
    f"POST {FLOW}/copy": [
        Act(["create_graph: alpha/g-copy", "change_draft: alpha/g-copy revision 1"])
    ],
    "POST admin/flow/examples/<slug:name>/": [
        Act(
            ["publish: alpha/approval version 1"],
            {"namespace": "{namespace}", "open": "1"},
            {"name": "approval"},
        )
    ],
    f"POST {FLOW}/run/": [
        Act(
            ["start: new"],
            {"run_id": "new", "version": "2", "revision": "2-0", "inputs": "{{}}"},
        )
    ],
    "POST admin/access/": [
        Act(["revoke_key: mine ({prefix}…)"], {"key": "{prefix}"}),
        Act(["set_time_zone: Asia/Tokyo"], {"time_zone": "Asia/Tokyo"}),
    ],
    "POST admin/run-states/start/": [Act(["start: new"], {"run_id": "new", "graph": "{ok}"})],
}
DOWNLOADS = {
    "runs/<str:run_id>/artifacts/<str:artifact>": "download: done f.txt",
    "runs/<str:run_id>/bundle": "download: done bundle",
    "admin/run-manager/bulk-operations/<str:operation>/file": "download: the file of Export of"
    " 1 runs",
    f"{MANAGER}/export.<export:form>": "export: csv: everything",
    f"{MANAGER}/operations/<int:pk>/report.csv": "download: the report of Pause of 1 runs",
    f"{MANAGER}/operations/<int:pk>/file": "download: the file of Export of 1 runs",
    f"{MANAGER}/run/<int:pk>/bundle.json": "download: done bundle",
    f"{MANAGER}/run/<int:pk>/lines.<lines:form>": "download: done lines as log",
    f"{FLOW}/graph.<flow_export:form>": "export_graph: alpha/g: json",
}


# --- the places -----------------------------------------------------------------------------------


def routes(patterns=None, prefix=""):
    for pattern in patterns or get_resolver().url_patterns:
        path = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from routes(pattern.url_patterns, path)
        else:
            yield path, pattern.callback


OURS_IN_ADMIN = ("runs.manager", "graphs.editor", "statemanager.sessions")


def is_of_admin(path, view):
    """Whether a page belongs to Django's admin, whose forms the registry lists."""
    ours = getattr(view, "__module__", "").startswith(OURS_IN_ADMIN)
    return path.startswith("admin/") and not ours and not hasattr(view, "cls")


def methods(view):
    """The methods of a view that may change something. A page without POST answers it with 405."""
    if hasattr(view, "actions"):
        return [method.upper() for method in view.actions if method not in ("get", "head")]
    if hasattr(view, "cls"):
        changing = ("post", "put", "patch", "delete")
        return [method.upper() for method in changing if hasattr(view.cls, method)]
    return ["POST"]


@pytest.mark.django_db
def test_every_mutating_route_and_page_is_in_a_table(client):
    listed = {*API, *PAGES, *SILENT}
    found = set()
    for path, view in routes():
        if is_of_admin(path, view):
            continue
        for method in methods(view):
            place = f"{method} {path}"
            if place in listed or client.post(f"/{filled(path, {})}").status_code != 405:
                found.add(place)
    assert found == listed


# --- the world ------------------------------------------------------------------------------------


class World(SimpleNamespace):
    """One of each thing, by the names that the tables use."""

    def fill(self, value):
        if isinstance(value, dict):
            return {self.fill(key): self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        return value.format(**vars(self)) if isinstance(value, str) else value


CHOICES = {
    "choice": "graphs",
    "lines": "log",
    "export": "csv",
    "flow_export": "json",
    "tab": "states",
}


def filled(path, values):
    """The path with these values for its placeholders; 1 or one of the choices for the others."""

    def value(match):
        return str(values.get(match[2], CHOICES.get(match[1], 1)))

    return re.sub(r"<(?:(\w+):)?(\w+)>", value, path)


@pytest.fixture
def world(publish, namespace, drain, settings):
    root = User.objects.create_superuser("root", password=PASSWORD)
    publish("a", name="g")
    graph = publish("a>b", name="g", kinds={"a": "test.fail"})
    ok = publish("x", name="ok")
    ask = publish("q", name="ask", kinds={"q": "test.ask"})
    draft = drafts.begin(namespace, "draft", SYSTEM, GRAPH)
    worker_registration.register(
        namespace, "program", [{"name": "Pay", "inputs_schema": {}, "outputs_schema": {}}]
    )
    worker_registration.set_secret(graph, "token", CANARY)
    runs = {name: start_run(of, RunOptions(run_id=name)) for name, of in
            (("failed", graph), ("done", ok), ("asking", ask))}  # fmt: skip
    drain()
    runs |= {name: start_run(ok, RunOptions(run_id=name)) for name in ("active", "paused")}
    control.pause_run(runs["paused"], SYSTEM)
    start_outside(namespace, RunOptions(run_id="outside"))
    runs["held"] = start_outside(namespace, RunOptions(run_id="held", enqueue=True))
    queue.claim(queue.waiting(SYSTEM), queue.Claimer("key w", 60), 1)
    runs["thread"] = start_outside(namespace, RunOptions(run_id="thread"))
    checkpoint = Checkpoint.objects.create(
        run=runs["thread"], checkpoint_id="c1", type="json", body=b"{}"
    )
    done, asker = {"pk": [runs["done"].pk]}, caller_of_user(root)
    exported = bulk_runner.run_inline(bulk.ask("export", done, asker, {"format": "csv"}))
    file = default_storage.save("f.txt", ContentFile(b"x"))
    artifact = Artifact.objects.create(
        run=runs["done"],
        name="f.txt",
        file=file,
        kind="file",
        size=1,
        checksum="x",
        state=runs["done"].states.get().pk,
    )
    over = bulk_runner.run_inline(bulk.ask("pause", done, asker))
    assert over.failed, "a run that has ended can't be paused"
    own_key = api_keys.create_key((), "read", name="mine")[0]
    ApiKey.objects.filter(pk=own_key.pk).update(created_by=root)
    yield World(
        root=root,
        namespace=namespace.pk,
        graph=graph.pk,
        ok=ok.pk,
        draft=draft.pk,
        **{name: run.pk for name, run in runs.items()},
        failure=runs["failed"].states.get(identifier="a").pk,
        waiting=runs["asking"].states.get().pk,
        dataset=Dataset.objects.create(namespace=namespace, name="d").pk,
        recurring=repeat(runs["done"], SYSTEM, Recurrence("0 6 * * *")).pk,
        rule=_rule("told", namespace).pk,
        schedule=graph_schedules.add(ok, SYSTEM, "0 5 * * *").pk,
        template=RunTemplate.objects.create(namespace=namespace, name="t", graph=ok).pk,
        checkpoint=checkpoint.pk,
        note=RunNote.objects.create(run=runs["done"], author="ann", text=CANARY).pk,
        view=SavedView.objects.create(name="v", owner=root, shared=True, namespace=namespace).pk,
        operation=over.pk,
        queued=bulk.ask("archive", done, asker).pk,
        exported=exported.pk,
        artifact=artifact.pk,
        prefix=own_key.prefix,
        jti="",
        refresh="",
    )
    default_storage.delete(file)


@pytest.fixture
def person(world):
    client = Client(raise_request_exception=False)
    client.force_login(world.root, "django.contrib.auth.backends.ModelBackend")
    return client


def upload():
    return {"upload": [SimpleUploadedFile("t.csv", b"a\n1\n")], "encoding": "utf-8"}


def entries_since(newest):
    """The entries that were written since, as the tables spell them; none holds a secret."""
    entries = list(AuditEntry.objects.filter(pk__gt=newest).order_by("pk"))
    known = {action for action, _ in AuditEntry._meta.get_field("action").flatchoices}
    for entry in entries:
        assert entry.action in known, entry.action
        assert CANARY not in entry.detail
        assert PASSWORD not in entry.detail
    return entries


def texts(entries):
    return sorted(f"{e.action}: {f'{e.run_id} {e.detail}' if e.run_id else e.detail}".strip()
                  for e in entries)  # fmt: skip


def newest():
    return AuditEntry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def check(world, since, expected, actor, via):
    entries = entries_since(since)
    wanted = sorted(world.fill(text).strip() for text in expected)
    got = texts(entries)
    if any("*" in text for text in wanted):
        got, wanted = [text.split(":")[0] for text in got], [t.split(":")[0] for t in wanted]
    assert got == wanted
    for entry in entries:
        assert (entry.actor, entry.via) == (actor, via)
    return entries


# --- the API --------------------------------------------------------------------------------------

OF_PATH = {
    "ns": "alpha", "graph": "g", "secret": "token", "graph_id": "{graph}",
    "dataset_id": "{dataset}", "template": "{template}", "view": "{view}",
    "operation": "{operation}",
}  # fmt: skip
EVERYWHERE = {"login", "logout", "revoke_token", "export", "bulk_pause", "bulk_archive",
              "bulk_stop", "revoke_key", "set_time_zone"}  # fmt: skip


@pytest.mark.parametrize("place", API)
def test_each_route_leaves_its_entries(world, person, place):
    act, (method, path) = API[place], place.split(" ", 1)
    text = api_keys.create_key((), "admin", name="robot")[1]
    client = person if act.as_person else Client(headers={"X-API-Key": text})
    if place.startswith("POST token"):
        client = Client(REMOTE_ADDR="127.0.0.1")
        answer = client.post(
            "/token", {"username": "root", "password": PASSWORD}, content_type="application/json"
        )
        world.refresh = answer.json()["refresh"]
        world.jti = _jti(world.refresh)[:8]
    url = f"/{filled(path, world.fill({**OF_PATH, **act.of}))}"
    since = newest()
    if act.body == "upload":
        files = SimpleUploadedFile("t.csv", b"a\n1\n")
        answer = client.post(url, {"name": "new", "namespace": "alpha", "files": files})
    else:
        headers = {"If-Match": "*"}
        body = None if act.body is None else world.fill(act.body)
        sent = b"" if body is None else json.dumps(body)
        answer = client.generic(method, url, sent, content_type="application/json", headers=headers)
    assert answer.status_code < 300, answer.content
    is_login = act.as_person or place.startswith("POST token")
    entries = check(world, since, act.entries, "root" if is_login else "key robot", "api")
    for entry in entries:
        assert entry.action in EVERYWHERE or entry.namespace_id == world.namespace


def _jti(refresh):
    return RefreshToken(refresh, verify=False)["jti"]


# --- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "act"),
    [
        pytest.param(place, act, id=f"{place} {act.entries[0]}")
        for place, acts in PAGES.items()
        for act in acts
    ],
)
def test_each_page_leaves_its_entries(world, person, place, act):
    url = f"/{filled(place.split(' ', 1)[1], world.fill({'pk': '{graph}', **act.of}))}"
    if act.body == "upload":
        form = {**upload(), "namespace": world.namespace, "name": "new"}
    else:
        form = world.fill(act.body or {})
    since = newest()
    answer = person.post(url, form)
    assert answer.status_code < 400, answer.content.decode()[:5000]
    entries = check(world, since, act.entries, "root", "page")
    for entry in entries:
        assert entry.action in EVERYWHERE or entry.namespace_id == world.namespace


@pytest.mark.parametrize("path", DOWNLOADS)
def test_each_download_leaves_an_entry(world, person, path):
    values = {
        "run_id": "done", "artifact": "{artifact}", "pk": "{done}", "operation": "{exported}",
    }  # fmt: skip
    if "operations" in path:
        values["pk"] = "{exported}" if path.endswith("file") else "{operation}"
    if path.startswith(FLOW):
        values["pk"] = "{graph}"
    since = newest()
    answer = person.get(f"/{filled(path, world.fill(values))}")
    assert answer.status_code == 200
    assert b"".join(answer.streaming_content) if answer.streaming else answer.content
    is_page = path.startswith("admin") and "bulk-operations" not in path
    check(world, since, [DOWNLOADS[path]], "root", "page" if is_page else "api")


def test_every_file_that_is_sent_is_in_the_table(world, person):
    """A view that answers with an attachment says so in its headers."""
    values = {"run_id": "done", "thread_id": "done", "artifact": world.artifact}
    sent = set()
    for path, view in routes():
        if is_of_admin(path, view) or path.startswith("v0"):
            continue
        for pk in (world.done, world.graph, world.exported):
            answer = person.get(f"/{filled(path, {**values, 'pk': pk, 'operation': pk})}")
            if answer.streaming:
                list(answer)
            if "attachment" in answer.get("Content-Disposition", ""):
                sent.add(path)
    assert sent == DOWNLOADS.keys() - {"runs/<str:run_id>/bundle"}  # JSON, without a file name


# --- the admin ------------------------------------------------------------------------------------

NAMED = {"namespaces": "{namespace}", "namespace": "{namespace}", "graph": "{graph}"}
SECRET = {"graph": "{graph}", "name": "fresh", "value": CANARY}
SCHEDULE = {"graph": "{graph}", "expression": "0 7 * * *", "time_zone": "UTC"}
RULE = {"name": "hook", "on_failed": "on", "channel": "webhook", "every_seconds": "60",
        "target": "https://example.org/hook", "enabled": "on"}  # fmt: skip
NO_TABLES = {f"tables-{key}": "0" for key in ("TOTAL_FORMS", "INITIAL_FORMS")}
KEY = {"name": "ci", "scope": "read", "namespaces": "{namespace}"}
NEW_USER = {"username": "new", "usable_password": "true", "password1": PASSWORD,
            "password2": PASSWORD}  # fmt: skip
USER = {"username": "ann", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
ATTEMPT = {"username": "x", "ip_address": "1.2.3.4", "user_agent": "u", "failures_since_start": "1"}
MEMBER = {"namespace": "{namespace}", "user": "{member}", "role": "viewer"}
# For each model the form that adds a row, the form that changes the row, and the row's name.
ADMIN = {
    "statemanager_graphs.namespace": (
        {"name": "new", "weight": "1"}, {"weight": "2"}, "namespace alpha"
    ),
    "statemanager_graphs.namespacemembership": (
        MEMBER, {**MEMBER, "role": "reader"}, "membership ann: reader of alpha"
    ),
    "statemanager_graphs.apikey": (KEY, {**KEY, "scope": "run"}, "API key ci"),
    "statemanager_graphs.dataset": (
        "upload", {**NO_TABLES, "encoding": "utf-8"}, "dataset alpha/d"
    ),
    "statemanager_graphs.secret": (SECRET, {"value": CANARY}, "secret alpha/g token"),
    "statemanager_graphs.crontrigger": (
        SCHEDULE, {**SCHEDULE, "expression": "0 8 * * *"}, "cron trigger alpha/g 0 "
    ),
    "statemanager_runs.notificationrule": (
        {**RULE, "name": "new"}, RULE, "notification rule hook"
    ),
    "auth.group": ({"name": "new"}, {"name": "crew"}, "group crew"),
    "auth.user": (NEW_USER, USER, "user ann"),
    "axes.accessattempt": (None, {}, "access attempt"),
    "axes.accesslog": (None, {}, "access log"),
    "axes.accessfailurelog": (None, {}, "access failure"),
}  # fmt: skip
# What an action of the admin leaves beside the entry that names it.
ADMIN_ACTIONS = {
    ("statemanager_graphs.apikey", "revoke"): ["revoke_key"],
    ("statemanager_graphs.graphversion", "make_current"): ["roll_back"],
    ("auth.user", "remove_second_factor"): [],
    ("statemanager_runs.notificationrule", "send_test"): ["test_rule"],
    ("statemanager_runs.notificationrule", "new_secret"): ["change_rule"],
    ("statemanager_runs.notificationmessage", "send_again"): [],
}


def site_request(world):
    request = RequestFactory().get("/")
    request.user = world.root
    return request


def rights_in_admin(model_admin, request):
    return [
        verb
        for verb in ("add", "change", "delete")
        if getattr(model_admin, f"has_{verb}_permission")(request)
    ]


def test_every_form_and_action_of_the_admin_is_in_a_table(world):
    request = site_request(world)
    forms, actions = set(), set()
    for model, model_admin in admin.site._registry.items():
        label = model._meta.label_lower
        if rights_in_admin(model_admin, request):
            forms.add(label)
        names = set(model_admin.get_actions(request)) - {"delete_selected"}
        actions |= {(label, name) for name in names}
    assert forms == set(ADMIN)
    assert actions == set(ADMIN_ACTIONS)


def _rule(name, namespace=None):
    rule = NotificationRule(
        name=name, namespace=namespace, channel="webhook", target="https://example.org/hook"
    )
    notification_rules.save(rule, SYSTEM)
    return rule


@pytest.fixture
def rows(world, namespace):
    """A row of each model that the admin changes."""
    world.member = User.objects.create_user("ann").pk
    graph = Graph.objects.get(pk=world.graph)
    login = {"username": "x", "ip_address": "1.2.3.4", "user_agent": "u"}
    return {
        "statemanager_graphs.namespace": namespace,
        "statemanager_graphs.namespacemembership": NamespaceMembership.objects.create(
            namespace=namespace, user_id=world.member, role="reader"
        ),
        "statemanager_graphs.apikey": api_keys.create_key(("alpha",), "read", name="ci")[0],
        "statemanager_graphs.dataset": Dataset.objects.get(pk=world.dataset),
        "statemanager_graphs.secret": graph.secrets.get(),
        "statemanager_graphs.crontrigger": CronTrigger.objects.create(
            graph=graph, expression="0 5 * * *", next_at="2030-01-01T00:00Z"
        ),
        "statemanager_runs.notificationrule": (rule := _rule("hook")),
        "statemanager_runs.notificationmessage": rule.messages.create(status="failed"),
        "auth.group": Group.objects.create(name="crew"),
        "auth.user": User.objects.get(pk=world.member),
        "axes.accessattempt": AccessAttempt.objects.create(failures_since_start=1, **login),
        "axes.accesslog": AccessLog.objects.create(**login),
        "axes.accessfailurelog": AccessFailureLog.objects.create(**login),
    }


def admin_url(label, view, *args):
    return reverse(f"admin:{label.replace('.', '_')}_{view}", args=args)


def admin_entries(since, prefix):
    """The admin's entries; none of them is without its author and its door."""
    entries = [e for e in entries_since(since) if e.action.startswith("admin_")]
    for entry in entries:
        assert (entry.actor, entry.via) == ("root", "page")
        assert entry.detail.startswith(prefix), entry.detail
    return [entry.action for entry in entries]


@pytest.mark.parametrize("label", [label for label, forms in ADMIN.items() if forms[0]])
def test_adding_in_the_admin_leaves_an_entry(world, person, rows, label):
    form = ADMIN[label][0]
    if form == "upload":
        form = {**upload(), **NO_TABLES, "namespace": "{namespace}", "name": "new"}
    if "membership" in label:
        NamespaceMembership.objects.all().delete()
    since = newest()
    answer = person.post(admin_url(label, "add"), world.fill(form))
    assert answer.status_code == 302, answer.context["errors"]
    name = str(apps.get_model(label)._meta.verbose_name)
    assert admin_entries(since, name) == ["admin_add"]


@pytest.mark.parametrize("label", ADMIN)
def test_changing_in_the_admin_leaves_an_entry(world, person, rows, label):
    _, form, name = ADMIN[label]
    since = newest()
    answer = person.post(admin_url(label, "change", rows[label].pk), world.fill(form))
    assert answer.status_code == 302, answer.context["errors"]
    assert admin_entries(since, name) == ["admin_change"]


@pytest.mark.parametrize("many", [False, True], ids=["one", "chosen"])
@pytest.mark.parametrize("label", [label for label in ADMIN if not label.endswith("namespace")])
def test_deleting_in_the_admin_leaves_an_entry(world, person, rows, label, many):
    pk, since = rows[label].pk, newest()
    if many:
        form = {"action": "delete_selected", "_selected_action": pk, "post": "yes"}
        answer = person.post(admin_url(label, "changelist"), form)
    else:
        answer = person.post(admin_url(label, "delete", pk), {"post": "yes"})
    assert answer.status_code == 302
    assert admin_entries(since, ADMIN[label][2]) == ["admin_delete"]
    assert not type(rows[label]).objects.filter(pk=pk).exists()


@pytest.mark.parametrize(("label", "action"), ADMIN_ACTIONS)
def test_an_action_of_the_admin_leaves_an_entry(world, person, rows, label, action):
    version = GraphVersion.objects.filter(graph=world.graph).earliest("number")
    pk = rows.get(label, version).pk
    since = newest()
    form = {"action": action, "_selected_action": pk}
    assert person.post(admin_url(label, "changelist"), form).status_code == 302
    entries = entries_since(since)
    assert [e.action for e in entries] == [*ADMIN_ACTIONS[label, action], "admin_action"]
    assert entries[-1].detail == f"{action}: {apps.get_model(label)._meta.verbose_name} {pk}"
