"""Every page and route that changes something, for a user whose right to do so lies elsewhere.

Ann manages the namespace alpha and only views beta, where everything is that the requests name. The
routes come from the URL map, so that no test forgets one.
"""

import json
import re

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import get_resolver

from graphs.auth.callers import SYSTEM
from graphs.models import Dataset, Namespace, NamespaceMembership, RegisteredNode
from graphs.services import drafts
from runs.actions import graph_schedules, notification_rules
from runs.actions.recurring import Recurrence, repeat
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import (
    AuditEntry,
    BulkOperation,
    BulkResult,
    ColumnChoice,
    NotificationRule,
    RunTemplate,
    SavedView,
)
from tests.support.api_client import ApiClient

pytestmark = pytest.mark.django_db
# What a request may write for its own sake.
OWN = {BulkOperation, BulkResult, ColumnChoice, SavedView}
OWN_ACTIONS = ("save_view", "delete_view")
OWN_APPS = {"sessions", "axes", "token_blacklist", "django_q", "admin"}
OWN_NAMES = {"IdempotencyKey"}
# The admin's own pages of models need model permissions; the others ask no namespace.
ELSEWHERE = re.compile(
    r"^admin/(statemanager_|auth/|axes/|log|password|autocomplete|r/|runs/<path:|\^|\(\?P)|^(token|v0|readyz)"
)


def routes(patterns=None, prefix=""):
    for pattern in patterns or get_resolver().url_patterns:
        path = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from routes(pattern.url_patterns, path)
        elif not ELSEWHERE.match(path):
            yield path


PATHS = sorted(set(routes()))


@pytest.fixture
def beta(publish, drain):
    """Values for the placeholders of paths and for bodies, from the namespace beta."""
    namespace = Namespace.objects.create(name="beta")
    graph = publish("a>b", name="g", namespace=namespace, kinds={"a": "test.fail"})
    drafts.begin(namespace, "draft", SYSTEM, graph.current.definition, "x")
    run = start_run(graph, RunOptions(run_id="the-run"))
    drain()
    waiting = publish("q", name="ask", namespace=namespace, kinds={"q": "test.ask"})
    asking = start_run(waiting, RunOptions(run_id="asking"))
    drain()
    dataset = Dataset.objects.create(namespace=namespace, name="d")
    template = RunTemplate.objects.create(namespace=namespace, name="t", graph=graph)
    state = asking.states.get()
    recurring = repeat(run, SYSTEM, Recurrence("0 6 * * *"))
    schedule = graph_schedules.add(graph, SYSTEM, "0 5 * * *")
    rule = NotificationRule(name="told", namespace=namespace, channel="mail", target="a@x.org")
    notification_rules.save(rule, SYSTEM)
    return {
        "ids": {
            "graph_id": graph.pk, "dataset_id": dataset.pk, "run_id": "the-run",
            "thread_id": "the-run", "template": template.pk, "state": state.pk, "artifact": 1,
            "checkpoint_id": "c", "operation": 1, "view": 1, "number": 1, "name": "approval",
            "form": "json", "tab": "states", "action": "cancel", "kind": "graphs", "note": 1,
            "checkpoint": 1, "recurring": recurring.pk, "schedule": schedule.pk,
            "rule": rule.pk,
        },
        "pks": {
            "reruns": recurring.pk, "schedules": schedule.pk, "datasets": dataset.pk,
            "templates": template.pk, "graph": graph.pk, "run": run.pk,
        },
        "asking": asking,
        "graph": graph,
        "body": {
            "namespace": "beta", "graph": "g", "graph_id": graph.pk, "graph_name": "g",
            "name": "renamed", "run_id": "new", "thread_id": "the-run", "inputs": {}, "store": {},
            "nodes": [], "edges": [], "definition": {"nodes": [], "edges": []},
            "labels": {"a": "b"}, "thread_ids": ["the-run"], "run_ids": ["the-run"],
            "action": "delete", "approved": True,
            "answer": {"value": 1}, "value": 1, "status": "completed", "delete": True,
            "text": "x", "query": {}, "from": "a", "session_id": "s", "sop": "s", "purpose": "p",
            "enabled": False,
        },
        "form": {
            "namespace": namespace.pk, "graph": graph.pk, "name": "renamed", "op": "add",
            "text": "x", "kind": "noop", "ids": [run.pk], "run": [run.pk], "runs": [run.pk],
            "value": "1", "note": "n", "revision": "1", "label": "a=b", "labels": "a=b",
            "status": "completed", "json": '{"nodes": [], "edges": []}', "run_ids": "the-run",
            "confirm": "1",
        },
    }  # fmt: skip


def filled(path, beta):
    """The path with beta's ids, for every run or verb that it may be about."""
    kind = next((kind for kind in beta["pks"] if f"{kind}/<int:pk>" in path), "run")
    values = {**beta["ids"], "pk": beta["pks"][kind], "verb": "cancel"}
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda match: str(values[match[1]]), path)


def rows():
    """All rows but those that a request may write for its own sake."""
    kept = {}
    for model in apps.get_models():
        if model in OWN or model._meta.app_label in OWN_APPS or model.__name__ in OWN_NAMES:
            continue
        fields = [field.name for field in model._meta.fields if field.name != "last_login"]
        stored = model.objects.all()
        if model is AuditEntry:
            stored = stored.exclude(action__in=OWN_ACTIONS)
        kept[model.__name__] = sorted(map(str, stored.values_list(*fields)))
    return kept


@pytest.fixture
def ann(beta):
    user = User.objects.create_user("ann", is_staff=True)
    alpha, _ = Namespace.objects.get_or_create(name="alpha")
    for namespace, role in ((alpha, "manager"), (beta["graph"].namespace, "viewer")):
        NamespaceMembership.objects.create(namespace=namespace, user=user, role=role)
    client = Client(raise_request_exception=False)
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


def request_all(client, path, beta):
    """Send every kind of request that may change something; yield the answers."""
    url = f"/{filled(path, beta)}"
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        yield send_known(client, method, url, beta["body"])
    yield client.post(url, beta["form"])


def send_known(client, method, url, body):
    """Send the members of the body that the route knows: it names the others."""
    answer = client.generic(method, url, json.dumps(body), content_type="application/json")
    if answer.status_code != 422 or "json" not in answer["Content-Type"]:
        return answer
    detail = answer.json()["detail"]
    problems = detail if isinstance(detail, list) else []
    unknown = {problem["loc"][-1] for problem in problems if "no such member" in problem["msg"]}
    known = {name: value for name, value in body.items() if name not in unknown}
    sent = json.dumps(known) if known else b""
    return client.generic(method, url, sent, content_type="application/json") if unknown else answer


@pytest.mark.parametrize("path", PATHS)
def test_nothing_changes_where_the_right_is_missing(path, beta, ann):
    before = rows()
    statuses = [answer.status_code for answer in request_all(ann, path, beta)]
    assert max(statuses) < 500, statuses
    after = rows()
    assert not {name for name in before if before[name] != after[name]}, statuses


def test_the_same_requests_change_much_where_the_right_is_there(beta, ann):
    """Otherwise the test above would test nothing."""
    NamespaceMembership.objects.filter(role="viewer").update(role="manager")
    before = rows()
    changing = []
    for path in PATHS:
        with transaction.atomic():
            for _ in request_all(ann, path, beta):
                pass
            if rows() != before:
                changing.append(path)
            transaction.set_rollback(True)
    assert len(changing) >= 15, changing


def test_a_refused_change_does_not_rename_the_graph(publish, make_key, namespace):
    graph = publish("a")
    broken = {"name": "renamed", "nodes": [{"id": "a", "kind": "nothing", "data": {}}]}
    assert ApiClient(make_key("run"))("PUT", f"/graphs/{graph.pk}", broken)[0] == 400
    graph.refresh_from_db()
    assert graph.name == "graph"


def test_a_graph_makes_only_those_workers_work_whose_namespace_one_may_start_runs_in(beta, ann):
    RegisteredNode.objects.create(
        namespace=beta["graph"].namespace, name="Pay", executor="worker", inputs_schema={}
    )
    definition = {
        "name": "mine",
        "namespace": "alpha",
        "nodes": [{"id": "p", "kind": "Pay", "namespace": "beta", "data": {}}],
        "edges": [],
    }
    answer = ann.generic("POST", "/graphs", json.dumps(definition), content_type="application/json")
    assert answer.status_code == 400, answer.content
    NamespaceMembership.objects.filter(role="viewer").update(role="operator")
    answer = ann.generic("POST", "/graphs", json.dumps(definition), content_type="application/json")
    assert answer.status_code == 201, answer.content


def test_the_health_report_is_for_those_who_see_all_namespaces(make_key):
    assert ApiClient(make_key("admin"))("GET", "/admin/run-manager/doctor")[0] == 403
    assert ApiClient(make_key("admin", ()))("GET", "/admin/run-manager/doctor")[0] == 200
