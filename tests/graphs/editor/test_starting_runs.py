"""The form that starts a run: its fields, its first values, and which version it starts."""

import json

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from graphs.auth.callers import SYSTEM, caller_of_user
from graphs.models import Dataset, Namespace, NamespaceMembership
from graphs.services.publish import publish_graph
from runs.actions import run_templates
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import Run
from tests.support.concurrency import at_once
from tests.support.definitions import definition
from tests.support.flow_client import Flow, fields, kind, settings

pytestmark = pytest.mark.django_db


def start(flow, form):
    """Send the form that starts a run."""
    return flow.client.post(f"{flow.path}run/", form)


@pytest.fixture
def dataset(namespace):
    return Dataset.objects.create(namespace=namespace, name="data")


@pytest.fixture
def form(flow, dataset):
    """The form of a run of the draft, which declares the required input "day"."""
    flow.post(
        **{
            "op": "settings",
            "name-0": "day",
            "type-0": "string",
            "default-0": "Monday",
            "needed-0": "on",
            "failure_policy": "continue",
        }
    )
    page = flow.get("run/").content.decode()
    assert "Runs <strong>the draft</strong>, which becomes version 2." in page
    return {
        "run_id": page.partition('name="run_id" value="')[2].partition('"')[0],
        "version": "draft",
        "input-day": "Friday",
        "dataset": dataset.pk,
        "revision": flow.revision,
    }


def test_the_dataset_of_another_namespace_is_refused(flow, form):
    beta = Namespace.objects.create(name="beta")
    other = Dataset.objects.create(namespace=beta, name="theirs")
    assert start(flow, {**form, "dataset": other.pk}).status_code == 422


def test_a_required_input_may_not_be_empty(flow, form):
    assert start(flow, {**form, "input-day": ""}).status_code == 422


def test_a_double_click_starts_one_run_with_the_values_of_the_form(flow, form, dataset, drain):
    first = start(flow, form)
    second = start(flow, form)
    run = Run.objects.get()
    assert first["Location"] == second["Location"] == f"/admin/run-manager/run/{run.pk}/"
    assert (run.version.number, run.initial_data, run.dataset, run.trigger) == (
        2,
        {"day": "Friday"},
        dataset,
        "admin",
    )
    drain()
    run.refresh_from_db()
    assert run.status == "completed"


@pytest.mark.django_db(transaction=True)
@pytest.mark.races
def test_clicks_at_the_same_moment_start_one_run(flow):
    flow.post(op="change", node="a", id="a", label="new")
    form = {"run_id": "once", "version": "draft", "inputs": "{}", "revision": str(flow.revision)}
    clients = [Client(), Client(), Client()]
    for client in clients:
        client.force_login(User.objects.get(username="ann"))
    answers = at_once(
        *(lambda client=client: client.post(f"{flow.path}run/", form) for client in clients)
    )
    run = Run.objects.get()
    assert [answer["Location"] for answer in answers] == [f"/admin/run-manager/run/{run.pk}/"] * 3
    assert run.version.number == 2


def test_a_template_fills_the_form(flow, drain):
    run = start_run(flow.graph)
    template = run_templates.from_run(run, "nightly", SYSTEM)
    assert (
        f'<option value="{template.pk}" selected>nightly</option>'
        in flow.get(f"run/?template={template.pk}").content.decode()
    )
    flow.client.post(
        f"{flow.path}run/",
        {"run_id": "from-template", "version": "1", "template": template.pk, "inputs": "{}"},
    )
    assert Run.objects.get(run_id="from-template").template == template


def test_a_draft_with_errors_does_not_run_but_the_published_version_does(flow):
    flow.post(kind=kind("log"), node="b")
    page = flow.get("run/").content.decode()
    assert "The draft has errors, so it can't run" in page
    draft = {"run_id": "x", "version": "draft", "inputs": "{}", "revision": flow.revision}
    assert start(flow, draft).status_code == 422
    start(flow, {"run_id": "y", "version": "1", "inputs": "{}"})
    assert [run.run_id for run in Run.objects.all()] == ["y"]


def test_the_version_that_the_page_showed_is_started(flow, publish):
    flow.post(op="change", node="a", id="a", label="drawn")
    page = flow.get("run/?version=1")
    assert "Runs <strong>version 1</strong>." in page.content.decode()
    assert '<a href="?version=draft">Run the draft instead</a>' in page.content.decode()
    publish("a>c")
    start(flow, fields(page))
    assert Run.objects.get().version.number == 1, "version 2 was published after the page was shown"
    page = flow.get("run/?version=1").content.decode()
    assert "It is not the current version." in page
    assert "Run the published version 2 instead" in page


@pytest.mark.parametrize("version", ["9", "published", "", "draft "])
def test_an_unknown_version_is_refused(flow, publish, version):
    flow.post(op="change", node="a", id="a", label="drawn")
    publish("a>c")
    answer = start(flow, {**fields(flow.get("run/")), "version": version})
    assert answer.status_code == 409
    assert "Check what would run now" in answer.content.decode()
    assert not Run.objects.exists()


def test_only_the_draft_that_the_page_showed_is_started(flow):
    flow.post(op="change", node="a", id="a", label="drawn")
    shown = fields(flow.get("run/"))
    flow.post(op="change", node="a", id="a", label="theirs")
    answer = start(flow, shown)
    assert answer.status_code == 409
    assert "changed the draft meanwhile" in answer.content.decode()
    flow.post(op="change", node="a", id="a", label="")
    page = flow.get("run/?version=draft").content.decode()
    assert "Runs <strong>version 1</strong>." in page, (
        "the draft is the same as the published version again"
    )
    assert start(flow, shown).status_code == 409
    assert not Run.objects.exists()


def test_the_form_has_the_fields_that_the_chosen_version_needs(flow, dataset):
    flow.post(**settings("day", "", **{"needed-0": "on"}))
    flow.post(kind=kind("dataset.read"), node="b")
    flow.post(op="change", node="read", id="read", **{"in-table": "orders"})
    draft = flow.get("run/")
    published = flow.get("run/?version=1")
    assert 'name="input-day"' in draft.content.decode()
    assert 'name="input-day"' not in published.content.decode()
    assert draft.context["form"].fields["dataset"].required
    assert not published.context["form"].fields["dataset"].required
    assert start(flow, fields(draft)).status_code == 422
    assert start(flow, fields(published)).status_code == 302
    start(flow, {**fields(draft), "input-day": "Friday", "dataset": dataset.pk})
    assert [run.version.number for run in Run.objects.order_by("pk")] == [1, 2]


@pytest.fixture
def typed_flow(flow, namespace):
    """`flow` with a version that declares the inputs "day" and "api_token"."""
    schema = {
        "type": "object",
        "properties": {
            "day": {"type": "string", "default": "Monday", "maxLength": 9},
            "api_token": {"type": "string"},
        },
    }
    graph = definition("a", inputs={"a": {"value": "${{ run.inputs.day }}"}})
    publish_graph(namespace, flow.graph.name, graph | {"inputs": schema})
    return flow


@pytest.fixture
def ann(flow):
    """The user of `flow`."""
    return User.objects.get(username="ann")


@pytest.fixture
def ben(namespace):
    user = User.objects.create_user("ben", is_staff=True)
    NamespaceMembership.objects.create(namespace=namespace, user=user, role="operator")
    return user


def started_by(user, graph, **inputs):
    """A run that the user started on a page."""
    return start_run(graph, RunOptions(inputs=inputs), caller=caller_of_user(user, "page"))


def test_the_first_form_shows_the_defaults(typed_flow):
    assert 'value="Monday"' in typed_flow.get("run/").content.decode()


def test_the_form_shows_the_inputs_of_the_users_own_last_run_without_secrets(typed_flow, ann, ben):
    started_by(ann, typed_flow.graph, day="Friday", api_token="s3cret", more=1)
    started_by(ben, typed_flow.graph, day="Sunday")
    page = typed_flow.get("run/").content.decode()
    assert 'value="Friday"' in page
    assert "s3cret" not in page
    typed_flow.client.force_login(ben)
    assert 'value="Sunday"' in typed_flow.get("run/").content.decode()


def test_a_masked_secret_is_taken_from_the_run_that_filled_the_form(typed_flow, ann):
    started_by(ann, typed_flow.graph, day="Friday", api_token="s3cret", more=1)
    page = typed_flow.get("run/")
    form = {
        **fields(page),
        "last": page.context["last"].pk,
        "input-day": "Friday",
        "input-api_token": "•••",
    }
    started_by(ann, typed_flow.graph, day="Tuesday", api_token="other")
    start(typed_flow, form)
    assert Run.objects.latest("pk").initial_data == {"day": "Friday", "api_token": "s3cret"}
    cleared = {**form, "run_id": "cleared", "input-day": "", "input-api_token": ""}
    start(typed_flow, cleared)
    assert Run.objects.latest("pk").initial_data == {"day": "Monday"}


def test_a_masked_secret_is_not_taken_from_the_run_of_another_user(typed_flow, ann, ben):
    anns_run = started_by(ann, typed_flow.graph, day="Friday", api_token="s3cret", more=1)
    started_by(ben, typed_flow.graph, day="Sunday")
    typed_flow.client.force_login(ben)
    page = typed_flow.get("run/")
    forged = {**fields(page), "last": anns_run.pk, "input-day": "x", "input-api_token": "•••"}
    start(typed_flow, forged)
    assert Run.objects.latest("pk").initial_data == {"day": "x", "api_token": "•••"}


def test_the_inputs_of_a_template_win_over_those_of_the_last_run(typed_flow, ann):
    run = started_by(ann, typed_flow.graph, day="Friday", api_token="s3cret", more=1)
    template = run_templates.from_run(run, "friday", SYSTEM)
    template.inputs = {"day": "Saturday"}
    template.save()
    page = typed_flow.get(f"run/?template={template.pk}").content.decode()
    assert 'value="Saturday"' in page


@pytest.fixture
def starter():
    """A user who may view and start runs everywhere, but may not see payloads."""
    user = User.objects.create_user("starter", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=["view_run", "add_run"]))
    return User.objects.get(pk=user.pk)


def test_the_inputs_of_the_last_run_are_shown_only_with_the_right_to_see_payloads(publish, starter):
    graph = publish("a", inputs={"a": {"value": "${{ run.inputs.word }}"}})
    started_by(starter, graph, word="HIDDEN-WORD")
    client = Client()
    client.force_login(starter)
    assert "HIDDEN-WORD" not in Flow(client, graph).get("run/").content.decode()
    starter.user_permissions.add(Permission.objects.get(codename="view_payload"))
    page = Flow(client, graph).get("run/").content.decode()
    assert "HIDDEN-WORD" in page
    assert '<details class="rm-choice" open>' in page, "inputs that will be sent must be visible"


def test_required_fields_are_marked(flow):
    flow.post(**settings("day", "hour", "", **{"needed-0": "on"}))
    flow.post(kind=kind("dataset.read"), node="b")
    flow.post(op="change", node="read", id="read", **{"in-table": "orders"})
    page = flow.get("run/").content.decode()
    assert "Fields with a * are required." in page
    assert 'for="id_input-day">Day *</label>' in page
    assert 'for="id_dataset">Dataset *</label>' in page
    assert "Hour:</label>" in page
    for name, required in (
        ("input-day", True),
        ("input-hour", False),
        ("dataset", True),
        ("name", False),
    ):
        tag = page.partition(f'name="{name}"')[2].partition(">")[0]
        assert (" required" in tag) == required, name


def test_the_form_proposes_a_dataset_that_has_the_tables(flow, namespace):
    def create_dataset(name, *tables):
        dataset = Dataset.objects.create(namespace=namespace, name=name)
        for table in tables:
            dataset.tables.create(name=table, file=f"{name}/{table}", format="csv")
        return dataset

    def proposed(query=""):
        return flow.get(f"run/{query}").context["form"].initial["dataset"]

    def draw_nodes_that_read(*tables):
        nodes = [
            {"id": f"n{at}", "kind": "dataset.read", "data": {"inputs": {"table": table}}}
            for at, table in enumerate(tables)
        ]
        flow.post(op="replace", view="json", json=json.dumps({"nodes": nodes, "edges": []}))

    draw_nodes_that_read("orders", "customers", "orders")
    assert proposed() is None, "there is no dataset"
    both = create_dataset("both", "customers", "orders")
    newer = create_dataset("newer", "orders", "customers", "more")
    orders_only = create_dataset("part", "orders")
    assert proposed() == newer.pk, "it is the newest with both tables"
    assert proposed("?version=1") is None, "version 1 reads no table"
    draw_nodes_that_read("orders")
    assert proposed() == orders_only.pk
    draw_nodes_that_read("orders", "${{ run.inputs.table }}")
    assert proposed() is None, "several datasets have the table, and the other table is unknown"
    draw_nodes_that_read("more", "${{ run.inputs.table }}")
    assert proposed() == newer.pk, "only this dataset has the table"
    start_run(flow.graph, dataset=both)
    assert proposed() == both.pk, "the last run used it"


def test_a_template_can_be_started_without_seeing_its_inputs(publish, starter):
    graph = publish("a", inputs={"a": {"value": "${{ run.inputs.word }}"}})
    run = start_run(graph, RunOptions(inputs={"word": "SECRET-WORD"}))
    template = run_templates.from_run(run, "t", SYSTEM)
    client = Client()
    client.force_login(starter)
    page = Flow(client, graph).get(f"run/?template={template.pk}")
    assert page.status_code == 200
    assert "SECRET-WORD" not in page.content.decode()
    client.post(
        page.request["PATH_INFO"],
        {"run_id": "unseen", "version": "1", "template": template.pk, "inputs": "{}"},
    )
    assert Run.objects.get(run_id="unseen").initial_data == {"word": "SECRET-WORD"}
