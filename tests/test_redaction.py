"""What a run works on is shown only to those who may see it, on every way out.

A marker is planted in every column that can hold what runs work on. Then every route is asked, and
every link that the pages show is followed, as a member of staff who may see everything but
payloads. A column or a route that is new is part of the test at once.
"""

import html
import json
import re
from collections import Counter

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.templatetags.admin_urls import admin_urlname
from django.contrib.auth.models import Permission, User
from django.db import models
from django.test import Client
from django.urls import get_resolver, reverse
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from graphs.definition import redaction
from graphs.models import (
    ApiKey,
    Dataset,
    DraftChange,
    Graph,
    GraphVersion,
    IdempotencyKey,
    Namespace,
    RegisteredNode,
    Secret,
)
from graphs.services import drafts, secrets
from runs.actions import bulk
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import (
    Artifact,
    AuditEntry,
    BulkOperation,
    Checkpoint,
    CheckpointBlob,
    CheckpointWrite,
    LogLine,
    NotificationRule,
    RecurringRerun,
    Run,
    RunNote,
    RunSlot,
    RunTemplate,
    State,
    ToolResult,
)

pytestmark = pytest.mark.django_db
OURS = ("statemanager_graphs", "statemanager_runs")
CAN_HOLD_TEXT = (models.CharField, models.TextField, models.JSONField, models.BinaryField)

# What runs work on: shown to those who may see payloads.
PAYLOADS = {
    Run: "initial_data store metadata data sop purpose action_history error_message",
    State: "inputs outputs chosen error waiting_for answer",
    LogLine: "message",
    ToolResult: "result",
    Checkpoint: "body metadata versions",
    CheckpointBlob: "body",
    CheckpointWrite: "body",
    RunTemplate: "inputs store error",
    BulkOperation: "params",
    RecurringRerun: "inputs error",
    RunSlot: "queue",
}
# Definitions, in which only the inputs whose names suggest a secret are hidden.
DEFINITIONS = {GraphVersion: "definition", DraftChange: "definition"}
# What nobody is shown.
NEVER = {
    ApiKey: "digest",
    IdempotencyKey: "answer",
    Secret: "token former",
    NotificationRule: "token",
}
# Payloads that no page and no route shows to anybody.
UNSEEN = {"Checkpoint-body", "CheckpointBlob-body", "RunTemplate-store", "BulkOperation-params"}
MARK = re.compile(r"MARK-(\w+-\w+)-MARK")
# What everybody sees who sees the row: names, statuses and what people wrote to be read by others.
OPEN = {
    "ApiKey": "name prefix scope",
    "CronTrigger": "expression time_zone error",
    "Dataset": "name source",
    "DatasetTable": "name file format columns checksum",
    "DraftChange": "message renamed made_by",
    "Graph": "name",
    "GraphVersion": "checksum note problems",
    "IdempotencyKey": "caller key digest rights run_id location",
    "IndexedInput": "path",
    "Namespace": "name",
    "NamespaceMembership": "role",
    "RegisteredNode": "name executor description inputs_schema outputs_schema secrets runtime_name",
    "Secret": "name",
    "NotificationRule": "name channel target created_by",
    "NotificationMessage": "status error",
    "NotificationEvent": "event",
    "UserTimeZone": "name",
    "Artifact": "identifier kind name file checksum",
    "AuditEntry": "actor via action run_id detail",
    "BulkOperation": "action query reason actor via status file error token",
    "BulkResult": "run_id name code reason created_run_id",
    "Checkpoint": "ns checkpoint_id parent_checkpoint_id type pending",
    "CheckpointBlob": "ns channel version type",
    "CheckpointWrite": "ns checkpoint_id task_id task_path channel type",
    "Cluster": "name host start_error",
    "ColumnChoice": "columns",
    "LogLine": "identifier level",
    "Run": "run_id name username workspace session_id trigger labels fingerprint origin status"
    " current_node node_counts",
    "QueueEntry": "holder",
    "RunDeadline": "",
    "AnswerDeadline": "",
    "RecurringRerun": "expression time_zone author",
    "RunNote": "author text",
    "RunTemplate": "name description labels workspace expression time_zone",
    "SavedView": "name query",
    "State": "fanout_id identifier node path status worker",
    "Tombstone": "run_id actor",
    "ToolResult": "key digest",
}


def columns(table):
    """(model name, column) of each column that a table of judgements lists."""
    for model, names in table.items():
        for name in names.split():
            yield model if isinstance(model, str) else model.__name__, name


def test_every_column_that_can_hold_text_is_judged():
    judged = [pair for table in (PAYLOADS, DEFINITIONS, NEVER, OPEN) for pair in columns(table)]
    assert len(judged) == len(set(judged))
    known = {
        (model.__name__, field.name)
        for label in OURS
        for model in apps.get_app_config(label).get_models()
        for field in model._meta.concrete_fields
        if isinstance(field, CAN_HOLD_TEXT)
    }
    assert known == set(judged)


def marker(model, column):
    return f"MARK-{model.__name__}-{column}-MARK"


def planted(model, column, value):
    """The value of a column with a marker in it, in the shape that the column's readers expect."""
    text = marker(model, column)
    match column:
        case "queue":
            return f"1:text:{text}"
        case "body":
            return json.dumps(text).encode()
        case "action_history":
            return [{"action": text, "node_name": "a", "note": text}]
        case "waiting_for":
            schema = {"type": "object", "properties": {"ok": {"type": "string", "title": text}}}
            return {"question": text, "schema": schema}
        case "chosen":
            return [text]
        case "definition":
            return with_secrets(value, text)
    is_json = isinstance(model._meta.get_field(column), models.JSONField)
    return {"password": text, "value": text} if is_json else text


def with_secrets(definition, text):
    inputs = {"password": text, "headers": {"Authorization": text, "Accept": "x"}}
    nodes = [
        {**node, "data": {**(node.get("data") or {}), "inputs": inputs}}
        for node in definition["nodes"]
    ]
    schema = {"properties": {"token": {"type": "string", "default": text}}}
    settings = {"store": {"required_keys": [], "default_values": {"api_key": text}}}
    return {
        **definition, "nodes": nodes, "inputs": schema, "settings": settings,
        "metadata": {"secret": text},
    }  # fmt: skip


def plant(model, columns_text):
    """Put markers into all rows of a model."""
    for row in model.objects.all():
        for column in columns_text.split():
            value = planted(model, column, getattr(row, column))
            model.objects.filter(pk=row.pk).update(**{column: value})
    assert model.objects.exists(), f"no row of {model.__name__}"


PAY = {
    "type": "object",
    "properties": {
        "password": {"type": "string", "maxLength": 5},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


@pytest.fixture
def world(publish, drain, make_key):
    """Rows of every model that can hold what a run works on, with markers in them."""
    beta = Namespace.objects.create(name="beta")
    RegisteredNode.objects.create(
        namespace=beta, name="Pay", executor="worker", inputs_schema=PAY, outputs_schema={}
    )
    graph = publish("a>b", name="g", namespace=beta, kinds={"a": "test.fail"})
    publish("a>b>c", name="g", namespace=beta, kinds={"a": "test.fail"})
    drafts.apply(
        graph, drafts.draft_of(graph).base,
        lambda definition: drafts.Edit(
            {**definition, "nodes": [*definition["nodes"], {"id": "p", "kind": "Pay",
             "namespace": "beta", "data": {"inputs": {"password": 5}}}]}, "add"
        ), SYSTEM,
    )  # fmt: skip
    run = start_run(graph, RunOptions(run_id="the-run"))
    drain()
    asking = publish("q>e", name="ask", namespace=beta, kinds={"q": "test.ask"})
    start_run(asking, RunOptions(run_id="asking"))
    emitting = publish("e", name="emit", namespace=beta, kinds={"e": "test.emit"})
    start_run(emitting, RunOptions(run_id="emitting"))
    drain()
    RegisteredNode.objects.create(
        namespace=beta, name="Free", executor="worker", inputs_schema={}, outputs_schema={}
    )
    publish("w", name="pay", namespace=beta, kinds={"w": "Free"}, namespaces={"w": "beta"})
    secrets.put(graph, "key", "a secret value")
    state = run.states.get()
    for each in Run.objects.all():
        LogLine.objects.create(run=each, state=None, message="x")
    ToolResult.objects.create(run=run, key="k", digest="d", result=1)
    Checkpoint.objects.create(
        run=run, checkpoint_id="c", type="json", body=b"{}", metadata={}, versions={}
    )
    CheckpointBlob.objects.create(run=run, channel="ch", version="1", type="json", body=b"1")
    CheckpointWrite.objects.create(
        run=run, checkpoint_id="c", task_id="t", idx=0, channel="ch", type="json", body=b"1"
    )
    RunNote.objects.create(run=run, author="ann", text="x")
    NotificationRule.objects.create(
        name="rule", target="ann@example.org", token=marker(NotificationRule, "token")
    )
    recurring = RecurringRerun.objects.create(
        run=run, namespace=beta, expression="0 6 * * *", author="ann", inputs={}
    )
    template = RunTemplate.objects.create(namespace=beta, name="t", graph=graph)
    IdempotencyKey.objects.create(caller="x", key="k", digest="d", answer={})
    AuditEntry.objects.record(SYSTEM, "start", run)
    bulk.ask("rerun", {"pk": [run.pk]}, SYSTEM, {"inputs": {"x": 1}})
    RunSlot.objects.create(run=run, graph=graph, capacity=1, available_at=timezone.now())
    make_key("read", ("beta",))
    dataset = Dataset.objects.create(namespace=beta, name="d")
    for table in (PAYLOADS, DEFINITIONS, NEVER):
        for model, names in table.items():
            plant(model, names)
    asked = State.objects.get(run__run_id="asking")
    State.objects.exclude(pk=asked.pk).update(waiting_for=None)
    return {
        "key": make_key("read", ("beta",)),
        "ids": {
            "graph_id": [graph.pk], "graph": ["g"], "ns": ["beta"], "dataset_id": [dataset.pk],
            "run_id": ["the-run", "asking", "emitting"],
            "thread_id": ["the-run", "asking", "emitting"],
            "template": [template.pk], "recurring": [recurring.pk], "state": [state.pk, asked.pk],
            "artifact": list(Artifact.objects.values_list("pk", flat=True)),
            "checkpoint_id": ["c"], "operation": [1], "view": [1], "number": [1],
            "version": [1, 2], "name": ["approval"], "page": [1], "size": [50], "secret": ["key"],
            "pk": [],
        },
        "pks": {
            "datasets": [dataset.pk], "templates": [template.pk], "graph": [graph.pk],
            "run": list(Run.objects.values_list("pk", flat=True)),
        },
        "runs": list(Run.objects.values_list("pk", flat=True)),
    }  # fmt: skip


def routes(patterns=None, prefix="", converters=None):
    """(path, converters by the names of its parameters)"""
    for pattern in patterns or get_resolver().url_patterns:
        path = prefix + str(pattern.pattern)
        known = {**(converters or {}), **getattr(pattern.pattern, "converters", {})}
        if hasattr(pattern, "url_patterns"):
            yield from routes(pattern.url_patterns, path, known)
        else:
            yield path, known


def addresses(world):
    """All paths, with every value that their parameters may have."""
    for path, converters in routes():
        if "logout" in path or "(?P" in path:
            continue
        paths = [path]
        for parameter in re.findall(r"<(?:\w+:)?(\w+)>", path):
            values = _values(world, path, parameter, converters)
            pattern = re.compile(rf"<(?:\w+:)?{parameter}>")
            paths = [pattern.sub(str(value), each, count=1) for each in paths for value in values]
        yield from (f"/{each}" for each in paths)


def _values(world, path, parameter, converters):
    if parameter == "object_id":
        app, model = path.split("/")[1:3]
        rows = apps.get_model(app, model).objects if app in OURS else User.objects
        return rows.values_list("pk", flat=True)[:4]
    if parameter == "pk":
        kind = next((kind for kind in world["pks"] if f"{kind}/<int:pk>" in path), "run")
        return world["pks"][kind]
    regex = converters[parameter].regex if parameter in converters else ""
    if parameter not in world["ids"] and "|" in regex:
        return regex.replace("\\", "").split("|")
    return world["ids"].get(parameter, [1])


QUERIES = ("", "?namespace=beta")
LINK = re.compile(r'(?:href|hx-get|src|action)="(/[^"#]*)')


def kind_of(address):
    """Links that differ only in the values of their queries are of one kind."""
    path, _, query = address.partition("?")
    return path, frozenset(part.partition("=")[0] for part in query.split("&"))


def crawl(client, world, **headers):
    """(address, status, text) of all addresses and of all that the pages link to."""
    paths = list(addresses(world))
    found = [path + query for path in paths for query in QUERIES if not path.endswith("/wait")]
    found += [f"{path}?timeout=0&namespace=beta" for path in paths if path.endswith("/wait")]
    runs = world["runs"]
    found += [f"/admin/run-manager/compare/?a={runs[0]}&b={run}" for run in runs]
    found += [f"/runs/the-run/compare?with={run}&namespace=beta&other={run}" for run in ("asking",)]
    known = set(map(kind_of, found))
    while found:
        address = found.pop()
        response = client.get(address, headers=headers)
        body = response.getvalue() if response.streaming else response.content
        text = body.decode(errors="replace")
        yield address, response.status_code, text
        for link in LINK.findall(text):
            link = html.unescape(link)
            if kind_of(link) not in known and not link.startswith(("/static/", "/admin/logout")):
                known.add(kind_of(link))
                found.append(link)


def staff(permissions):
    """A client of a member of staff who has these permissions."""
    user = User.objects.create_user("vera", is_staff=True)
    user.user_permissions.set(permissions)
    client = Client(raise_request_exception=False)
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


def leaks(client, world, **headers):
    """The addresses that show each marker, and how many answers there were with each status."""
    found, statuses = {}, Counter()
    for address, status, text in crawl(client, world, **headers):
        statuses[status] += 1
        assert status < 500 or address.startswith("/readyz"), (address, text[:500])
        for mark in MARK.findall(text):
            found.setdefault(mark, []).append(address)
    return found, statuses


def report(found):
    return "\n".join(f"{mark}: {places[:8]}" for mark, places in found.items())


@pytest.mark.only_on("sqlite")
def test_no_way_out_shows_payloads_to_a_viewer(world):
    """What pages show depends on rights, not on the database: each long crawl uses one."""
    may_view = Permission.objects.filter(codename__startswith="view_")
    found, statuses = leaks(staff(may_view.exclude(codename="view_payload")), world)
    assert statuses[200] > 200, statuses
    assert not found, report(found)


@pytest.mark.only_on("postgresql")
def test_no_way_out_shows_payloads_to_staff_who_may_do_all_but_see_them(world):
    found, statuses = leaks(staff(Permission.objects.exclude(codename="view_payload")), world)
    assert statuses[200] > 200, statuses
    found.pop("State-waiting_for", None)  # whoever may answer a question sees it
    assert not found, report(found)


def test_a_key_of_another_namespace_sees_nothing(world, make_key):
    found, _ = leaks(Client(), world, **{"X-API-Key": make_key("read", ("alpha",))})
    assert not found, report(found)


@pytest.mark.only_on("sqlite")
def test_the_same_routes_show_payloads_to_those_who_may_see_them(admin_client, world):
    """Otherwise the tests above would test nothing. What nobody may see, nobody sees."""
    found, _ = leaks(admin_client, world)
    expected = {"-".join(pair) for pair in (*columns(PAYLOADS), *columns(DEFINITIONS))}
    assert expected - set(found) == UNSEEN
    assert set(found) <= expected, report(found)


def test_a_key_that_may_read_sees_no_more_than_payloads(world):
    found, _ = leaks(Client(), world, **{"X-API-Key": world["key"]})
    assert "State-inputs" in found
    assert set(found) <= {"-".join(pair) for pair in (*columns(PAYLOADS), *columns(DEFINITIONS))}


def test_dots_that_come_back_mean_the_secrets_that_they_stood_for(world):
    """Whoever may change graphs without seeing payloads changes everything but the secrets."""
    client = staff(Permission.objects.exclude(codename="view_payload"))
    graph = Graph.objects.get(name="pay")
    former = graph.current.definition
    sent = client.get(f"/graphs/{graph.pk}").json()
    assert "MARK" not in json.dumps(sent)
    sent["nodes"][0]["label"] = "New label"
    answer = client.put(f"/graphs/{graph.pk}", sent, content_type="application/json")
    assert answer.status_code == 200, answer.content
    assert "MARK" not in answer.content.decode()
    graph.refresh_from_db()
    node = graph.current.definition["nodes"][0]
    assert (node["label"], node["data"]) == ("New label", former["nodes"][0]["data"])
    assert graph.current.definition["settings"] == former["settings"]
    assert graph.current.definition["inputs"] == former["inputs"]


def test_a_form_of_flowview_keeps_the_secrets_that_it_showed_as_dots(world):
    client = staff(Permission.objects.exclude(codename="view_payload"))
    graph = Graph.objects.get(name="g")
    former = drafts.draft_of(graph)
    page = client.get(f"/admin/graphs/graph/{graph.pk}/flow/?node=p").content.decode()
    fields = re.findall(r'<(?:input|textarea)[^>]*name="(in-[^"]*)"', page)
    assert "in-password" in fields
    form = {
        "op": "change", "node": "p", "revision": str(former.base), "id": "pay", "label": "Pay",
        "in-password": redaction.DOTS, "in-headers-0-name": "Authorization",
        "in-headers-0-0": redaction.DOTS, "in-headers-1-name": "Accept", "in-headers-1-0": "y",
        "strategy": "ALL_SUCCESS",
    }  # fmt: skip
    answer = client.post(f"/admin/graphs/graph/{graph.pk}/flow/edit", form)
    assert answer.status_code == 302, answer.content.decode()
    inputs = {
        node["id"]: node["data"]["inputs"] for node in drafts.draft_of(graph).definition["nodes"]
    }
    secret = marker(DraftChange, "definition")
    assert inputs["pay"] == {
        "password": secret, "headers": {"Authorization": secret, "Accept": "y"},
    }  # fmt: skip


GUESS = "error:MARK-Run-error_message"


def test_filters_in_an_address_do_not_spell_out_what_a_page_does_not_show(world):
    client = staff(Permission.objects.exclude(codename="view_payload"))
    asked = 0
    for table in (PAYLOADS, DEFINITIONS, NEVER):
        for model, names in table.items():
            if not admin.site.is_registered(model):
                continue
            page = reverse(admin_urlname(model._meta, "changelist"))
            for name in names.split():
                status = client.get(page, {f"{name}__contains": "a"}).status_code
                assert status == 400, (model, name)
                asked += 1
    assert asked > 20
    runs = reverse("admin:statemanager_runs_run_changelist")
    assert client.get(runs, {"status__exact": "completed"}).status_code == 200
    assert client.get(runs, {"graph__id__exact": "1"}).status_code == 200


@pytest.mark.parametrize("text", [GUESS, f"-{GUESS}"])
def test_a_search_does_not_spell_out_the_errors_that_one_may_not_see(world, admin_client, text):
    client = staff(Permission.objects.exclude(codename="view_payload"))
    paths = (
        "/admin/run-manager/runs?search=", "/admin/run-manager/export.csv?search=",
        "/admin/run-manager/?search=",
    )  # fmt: skip
    for path in paths:
        for who, found in ((client, False), (admin_client, not text.startswith("-"))):
            response = who.get(f"{path}{text}")
            body = response.getvalue() if response.streaming else response.content
            assert (b"the-run" in body) == found, path
