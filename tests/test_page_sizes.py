"""Pages stay small however much tenants make: their bytes and their statements are counted."""

import uuid
from functools import partial

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.definition.labels import MAX_LABELS
from graphs.editor.palette import MAX_ENTRIES
from graphs.models import (
    ApiKey,
    CronTrigger,
    Dataset,
    DatasetTable,
    Graph,
    GraphVersion,
    Namespace,
    NamespaceMembership,
    RegisteredNode,
    Secret,
)
from graphs.web.pickers import MAX_CHOICES
from runs.actions import annotate
from runs.actions.rerun import rerun
from runs.actions.saved_views import MAX_VIEWS
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.models import Artifact, QueueEntry, RecurringRerun, Run, RunTemplate, SavedView
from tests.support.pages import LIST, text

pytestmark = pytest.mark.django_db
MANY = 2000
MAX_BYTES = 400_000
MAX_NAMES = 1500  # a page that showed all of something would have more
MAX_QUERIES = 65  # Health makes some for each of its checks, and two for each table of runs
NAME = "a-name-of-some-length-"


@pytest.fixture
def many(publish, namespace, admin_user):
    """Thousands of everything that tenants make; a graph and a run of it that pages can show."""
    graph = publish("a")
    version = graph.current
    run = start_run(graph, RunOptions(run_id="shown"))
    spaces = Namespace.objects.bulk_create(Namespace(name=f"{NAME}{n}") for n in range(MANY))
    names = [f"{NAME}{n}" for n in range(MANY)]
    graphs = Graph.objects.bulk_create(
        Graph(namespace=namespace, name=name, current=version) for name in names
    )
    GraphVersion.objects.bulk_create(
        GraphVersion(graph=graph, number=n, definition=version.definition, checksum=f"{n:064}")
        for n in range(2, MANY)
    )
    users = User.objects.bulk_create(User(username=name) for name in names)
    RegisteredNode.objects.bulk_create(
        RegisteredNode(namespace=namespace, name=name, executor="worker") for name in names
    )
    datasets = Dataset.objects.bulk_create(
        Dataset(namespace=namespace, name=name) for name in names
    )
    DatasetTable.objects.bulk_create(
        DatasetTable(dataset=dataset, name="t", file=f"{dataset.pk}", format="csv")
        for dataset in datasets
    )
    ApiKey.objects.bulk_create(ApiKey(name=name, prefix=f"p{n}") for n, name in enumerate(names))
    Secret.objects.bulk_create(Secret(graph=graph, name=name) for name in names)
    CronTrigger.objects.bulk_create(
        CronTrigger(graph=each, expression="0 0 1 1 *") for each in graphs
    )
    RunTemplate.objects.bulk_create(
        RunTemplate(namespace=namespace, graph=graph, name=name) for name in names
    )
    SavedView.objects.bulk_create(
        SavedView(owner=user, name=name, shared=True)
        for user, name in zip(users, names, strict=True)
    )
    NamespaceMembership.objects.bulk_create(
        NamespaceMembership(namespace=space, user=user)
        for space, user in zip(spaces, users, strict=True)
    )
    Artifact.objects.bulk_create(
        Artifact(run=run, state=uuid.UUID(int=n), name=name, file=name, size=1)
        for n, name in enumerate(names)
    )
    labels = {f"{NAME}{n}": "x" * 100 for n in range(MANY)}  # as rows of older releases have them
    Run.objects.bulk_create(
        Run(
            namespace=namespace,
            run_id=name,
            graph=each,
            version=version,
            username=name,
            workspace=name,
            labels=labels if n < 50 else {},
            status="queued",
        )
        for n, (name, each) in enumerate(zip(names, graphs, strict=True))
    )
    RecurringRerun.objects.bulk_create(
        RecurringRerun(run=run, namespace=namespace, expression=name, author=name) for name in names
    )
    QueueEntry.objects.bulk_create(
        QueueEntry(run=each, namespace=namespace, holder=NAME)
        for each in Run.objects.exclude(pk=run.pk)
    )
    return {
        "graph": graph,
        "run": run,
        "dataset": datasets[0],
        "template": RunTemplate.objects.first(),
    }


def pages(world):
    """The addresses of all pages whose content tenants make."""
    graph, run = world["graph"].pk, world["run"].pk
    labelled = Run.objects.filter(run_id=f"{NAME}7").get().pk
    yield LIST
    yield f"{LIST}?cols=name,labels,dataset,namespace&ordering=time"
    yield f"{LIST}?username={NAME}1999&graph=alpha/{NAME}1999"
    yield reverse("run_states")
    yield f"{LIST}run/{labelled}/"
    yield f"{LIST}compare/?a={run}&b={labelled}"
    for tab in ("", "states/", "logs/", "data/", "lineage/", "history/", "timeline/"):
        yield f"{LIST}run/{run}/{tab}"
    for name in (
        "run_templates", "run_manager_operations", "run_health", "run_manager_view",
        "run_recurring", "run_inbox", "run_schedules", "run_scheduled_templates",
        "run_schedule_new",
    ):  # fmt: skip
        yield reverse(name)
    yield f"{LIST}rerun/{run}/"
    yield reverse("run_template", args=[world["template"].pk])
    yield reverse("admin:index")
    for name in ("flow_home", "flow_datasets"):
        yield reverse(name)
    for name in ("flow", "flow_run", "flow_history", "flow_publish"):
        yield reverse(name, args=[graph])
    yield reverse("flow_dataset", args=[world["dataset"].pk])


def admin_pages():
    """The stock admin's lists and forms of everything that tenants make."""
    for model in admin.site._registry:
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield reverse(f"{base}_changelist")
        if model in (ApiKey, Dataset, NamespaceMembership, CronTrigger, Secret):
            yield reverse(f"{base}_add")
        first = model._default_manager.order_by("pk").first()
        if first is not None and model is not Run:
            yield reverse(f"{base}_change", args=[first.pk])


def test_pages_stay_small_however_much_tenants_make(admin_client, many):
    too_large, too_many = {}, {}
    admin_client.get(LIST)
    admin_client.get(reverse("run_health"))  # its look at the tables is cached
    for url in [*pages(many), *admin_pages()]:
        with CaptureQueriesContext(connection) as queries:
            page = admin_client.get(url)
        assert page.status_code == 200, (url, page.status_code)
        names = page.content.count(NAME.encode())
        if len(page.content) > MAX_BYTES or names > MAX_NAMES:
            too_large[url] = len(page.content), names
        if len(queries) > MAX_QUERIES:
            too_many[url] = len(queries)
    assert (too_large, too_many) == ({}, {})


def test_a_name_is_typed_where_there_are_too_many_for_a_menu(admin_client, many):
    page = text(admin_client.get(reverse("run_states")))
    assert page.count("<option") == MAX_CHOICES
    assert 'name="graph-name"' in page
    assert "<select" not in page
    form = {"graph-name": f"alpha/{NAME}1999", "run_id": "typed", "inputs": "{}"}
    assert admin_client.post(reverse("run_states_start"), form).status_code == 302
    assert Run.objects.get(run_id="typed").graph.name == f"{NAME}1999"
    wrong = admin_client.post(reverse("run_states_start"), {**form, "graph-name": "no/such"})
    assert wrong.status_code == 422
    assert 'value="no/such"' in text(wrong)


def test_the_server_suggests_names_that_match_what_was_typed(admin_client, many):
    for kind in ("graphs", "runnable", "namespaces", "startable", "usernames", "workspaces"):
        url = reverse("run_manager_choices", args=[kind])
        options = text(admin_client.get(url, {"field": "q", "q": f"{NAME}199"}))
        assert options.count("<option") == 11, kind  # 199 and 1990 to 1999
        options = text(admin_client.get(url, {"field": "q", "q": NAME}))
        assert options.count("<option") == MAX_CHOICES, kind
        assert not text(admin_client.get(url, {"field": "q", "q": "of no such name"})).strip()


def test_suggestions_are_of_namespaces_that_the_user_sees(client, many):
    viewer = User.objects.create_user("viewer", password="pw", is_staff=True)
    space = Namespace.objects.get(name=f"{NAME}5")
    NamespaceMembership.objects.create(namespace=space, user=viewer, role="viewer")
    client.force_login(viewer)
    for kind, names in {"namespaces": [space.name], "graphs": [], "usernames": []}.items():
        page = text(
            client.get(reverse("run_manager_choices", args=[kind]), {"field": "q", "q": ""})
        )
        assert page.count("<option") == len(names)
    graph = many["graph"].pk
    url = reverse("run_manager_choices", args=["datasets"])
    assert client.get(url, {"graph": graph}).status_code == 404


def test_the_palette_shows_some_nodes_and_finds_the_others(admin_client, many):
    url = reverse("flow", args=[many["graph"].pk])
    page = text(admin_client.get(url))
    assert page.count('class="fl-kind"') == MAX_ENTRIES
    assert "More nodes match" in page
    page = text(admin_client.get(url, {"search": f"{NAME}1999"}))
    assert page.count('class="fl-kind"') == 1


def test_the_list_shows_the_first_labels_and_how_many_more_there_are(admin_client, many):
    page = text(admin_client.get(f"{LIST}?cols=labels&ordering=time"))
    assert f'<span class="rm-quiet">+{MANY - 3:,}</span>' in page


@pytest.mark.parametrize(
    "labels",
    [{f"k{n}": "v" for n in range(MAX_LABELS + 1)}, {"k" * 201: "v"}, {"k": "v" * 501}],
    ids=["many", "key", "value"],
)
def test_labels_are_limited_at_every_door(admin_client, run_graph, labels):
    run = run_graph("a")
    of_list = {f"{key}={value}" for key, value in labels.items()}
    doors = {
        f"/graphs/{run.graph_id}/run": {"labels": labels},
        "/templates": {"name": "t", "graph_id": str(run.graph_id), "labels": labels},
        "/admin/run-manager/bulk-operations": {
            "action": "label",
            "ids": [run.run_id],
            "params": {"add": labels},
        },
    }
    for url, body in doors.items():
        answer = admin_client.post(url, body, content_type="application/json")
        assert answer.status_code == 422, (url, answer.content)
    form = {"run": run.pk, "add": " ".join(of_list), "confirmed": "1"}
    admin_client.post(reverse("run_manager_bulk", args=["label"]), form)
    for start in (
        partial(start_run, run.graph),
        partial(start_outside, run.namespace),
    ):
        with pytest.raises(errors.Malformed, match="label"):
            start(RunOptions(labels=labels))
    with pytest.raises(errors.Malformed, match="label"):
        annotate.label_run(run, SYSTEM, labels)
    run.refresh_from_db()
    assert run.labels == {}
    assert Run.objects.count() == 1


def test_a_run_of_an_older_release_keeps_its_labels_in_a_rerun_and_can_lose_some(run_graph):
    run = run_graph("a")
    run.labels = {f"k{n}": "v" for n in range(100)}
    run.save()
    assert rerun(run, SYSTEM).labels == run.labels
    assert len(annotate.label_run(run, SYSTEM, {}, ["k1"]).labels) == 99
    with pytest.raises(errors.Malformed):
        annotate.label_run(run, SYSTEM, {"new": "v"})


def test_a_user_has_a_limited_number_of_views(admin_client, admin_user):
    SavedView.objects.bulk_create(
        SavedView(owner=admin_user, name=f"v{n}") for n in range(MAX_VIEWS)
    )
    admin_client.post(reverse("run_manager_view"), {"name": "new", "query": "?status=failed"})
    assert SavedView.objects.count() == MAX_VIEWS
    admin_client.post(reverse("run_manager_view"), {"name": "v1", "query": "?status=failed"})
    assert SavedView.objects.get(name="v1").query == "status=failed"
