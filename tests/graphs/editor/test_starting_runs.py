"""The form that starts a run: what it offers, what it sends, and who may see it."""

import json

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from graphs.auth.callers import SYSTEM, caller_of_user
from graphs.models import Dataset, Namespace, NamespaceMembership
from graphs.services.publish import publish_graph
from runs.actions import run_templates
from runs.engine.start import RunOptions, start_run
from runs.models import Run
from tests.support.concurrency import at_once
from tests.support.definitions import definition
from tests.support.flow_client import Flow, fields, kind, settings

pytestmark = pytest.mark.django_db


def test_a_double_click_makes_one_run_with_what_the_form_says(flow, namespace, drain):
    dataset = Dataset.objects.create(namespace=namespace, name="data")
    other = Dataset.objects.create(namespace=Namespace.objects.create(name="beta"), name="theirs")
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
    run_id = page.partition('name="run_id" value="')[2].partition('"')[0]
    form = {
        "run_id": run_id,
        "version": "draft",
        "input-day": "Friday",
        "dataset": dataset.pk,
        "revision": flow.revision,
    }
    assert flow.client.post(f"{flow.path}run/", {**form, "dataset": other.pk}).status_code == 422
    assert flow.client.post(f"{flow.path}run/", {**form, "input-day": ""}).status_code == 422
    first, second = (flow.client.post(f"{flow.path}run/", form) for _ in range(2))
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
def test_two_clicks_at_the_same_moment_make_one_run(flow):
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
    refused = flow.client.post(
        f"{flow.path}run/",
        {"run_id": "x", "version": "draft", "inputs": "{}", "revision": flow.revision},
    )
    assert refused.status_code == 422
    flow.client.post(f"{flow.path}run/", {"run_id": "y", "version": "1", "inputs": "{}"})
    assert [run.run_id for run in Run.objects.all()] == ["y"]


def test_the_version_that_the_page_showed_is_what_runs(flow, publish):
    flow.post(op="change", node="a", id="a", label="drawn")
    page = flow.get("run/?version=1")
    assert "Runs <strong>version 1</strong>." in page.content.decode()
    assert '<a href="?version=draft">Run the draft instead</a>' in page.content.decode()
    publish("a>c")
    flow.client.post(f"{flow.path}run/", fields(page))
    assert Run.objects.get().version.number == 1, "though version 2 was published meanwhile"
    page = flow.get("run/?version=1").content.decode()
    assert "It is not the current version." in page
    assert "Run the published version 2 instead" in page
    for odd in ("9", "published", "", "draft "):
        answer = flow.client.post(
            f"{flow.path}run/", {**fields(flow.get("run/")), "run_id": "odd", "version": odd}
        )
        assert answer.status_code == 409
        assert "Check what would run now" in answer.content.decode()
    assert not Run.objects.filter(run_id="odd").exists()


def test_the_draft_that_the_page_showed_is_what_runs(flow):
    flow.post(op="change", node="a", id="a", label="drawn")
    shown = fields(flow.get("run/"))
    flow.post(op="change", node="a", id="a", label="theirs")
    answer = flow.client.post(f"{flow.path}run/", shown)
    assert answer.status_code == 409
    assert "changed the draft meanwhile" in answer.content.decode()
    flow.post(op="change", node="a", id="a", label="")
    assert "Runs <strong>version 1</strong>." in flow.get("run/?version=draft").content.decode(), (
        "the draft is as published again"
    )
    assert flow.client.post(f"{flow.path}run/", shown).status_code == 409
    assert not Run.objects.exists()


def test_what_a_run_is_asked_for_is_what_its_definition_declares(flow, namespace):
    dataset = Dataset.objects.create(namespace=namespace, name="data")
    flow.post(**settings("day", "", **{"needed-0": "on"}))
    flow.post(kind=kind("dataset.read"), node="b")
    flow.post(op="change", node="read", id="read", **{"in-table": "orders"})
    drawn, published = flow.get("run/"), flow.get("run/?version=1")
    assert 'name="input-day"' in drawn.content.decode()
    assert 'name="input-day"' not in published.content.decode()
    assert (
        drawn.context["form"].fields["dataset"].required,
        published.context["form"].fields["dataset"].required,
    ) == (True, False)
    assert flow.client.post(f"{flow.path}run/", fields(drawn)).status_code == 422
    assert flow.client.post(f"{flow.path}run/", fields(published)).status_code == 302
    flow.client.post(
        f"{flow.path}run/", {**fields(drawn), "input-day": "Friday", "dataset": dataset.pk}
    )
    assert [run.version.number for run in Run.objects.order_by("pk")] == [1, 2]


def test_the_form_is_filled_with_what_the_users_last_run_was_given(flow, namespace):
    declared = {
        "type": "object",
        "properties": {
            "day": {"type": "string", "default": "Monday", "maxLength": 9},
            "api_token": {"type": "string"},
        },
    }
    publish_graph(
        namespace,
        flow.graph.name,
        definition("a", inputs={"a": {"value": "${{ run.inputs.day }}"}}) | {"inputs": declared},
    )
    assert 'value="Monday"' in flow.get("run/").content.decode()
    ann, ben = User.objects.get(), User.objects.create_user("ben", is_staff=True)
    own = start_run(
        flow.graph,
        RunOptions(inputs={"day": "Friday", "api_token": "s3cret", "more": 1}),
        caller=caller_of_user(ann, "page"),
    )
    NamespaceMembership.objects.create(namespace=namespace, user=ben, role="operator")
    start_run(flow.graph, RunOptions(inputs={"day": "Sunday"}), caller=caller_of_user(ben, "page"))
    page = flow.get("run/")
    assert 'value="Friday"' in page.content.decode()
    assert "s3cret" not in page.content.decode()
    sent = {
        **fields(page),
        "last": page.context["last"].pk,
        "input-day": "Friday",
        "input-api_token": "•••",
    }
    start_run(
        flow.graph,
        RunOptions(inputs={"day": "Tuesday", "api_token": "other"}),
        caller=caller_of_user(ann, "page"),
    )
    flow.client.post(f"{flow.path}run/", sent)
    assert Run.objects.latest("pk").initial_data == {"day": "Friday", "api_token": "s3cret"}, (
        "the secret of the run that the form was filled with"
    )
    flow.client.post(
        f"{flow.path}run/", {**sent, "run_id": "cleared", "input-day": "", "input-api_token": ""}
    )
    assert Run.objects.latest("pk").initial_data == {"day": "Monday"}
    template = run_templates.from_run(own, "friday", SYSTEM)
    template.inputs = {"day": "Saturday"}
    template.save()
    assert 'value="Saturday"' in flow.get(f"run/?template={template.pk}").content.decode()
    flow.client.force_login(ben)
    page = flow.get("run/")
    assert 'value="Sunday"' in page.content.decode()
    stolen = {**fields(page), "last": own.pk, "input-day": "x", "input-api_token": "•••"}
    flow.client.post(f"{flow.path}run/", stolen)
    assert Run.objects.latest("pk").initial_data == {"day": "x", "api_token": "•••"}, (
        "others' runs fill nothing"
    )


def test_the_last_runs_inputs_are_not_for_who_may_not_see_payloads(publish):
    graph = publish("a", inputs={"a": {"value": "${{ run.inputs.word }}"}})
    user = User.objects.create_user("starter", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=["view_run", "add_run"]))
    user = User.objects.get(pk=user.pk)
    start_run(
        graph, RunOptions(inputs={"word": "HIDDEN-WORD"}), caller=caller_of_user(user, "page")
    )
    client = Client()
    client.force_login(user)
    assert "HIDDEN-WORD" not in Flow(client, graph).get("run/").content.decode()
    user.user_permissions.add(Permission.objects.get(codename="view_payload"))
    page = Flow(client, graph).get("run/").content.decode()
    assert "HIDDEN-WORD" in page
    assert '<details class="rm-choice" open>' in page, "what is sent is seen"


def test_what_is_required_says_so_before_the_form_is_sent(flow):
    flow.post(**settings("day", "hour", "", **{"needed-0": "on"}))
    flow.post(kind=kind("dataset.read"), node="b")
    flow.post(op="change", node="read", id="read", **{"in-table": "orders"})
    page = flow.get("run/").content.decode()
    assert "Fields with a * are required." in page
    assert 'for="id_input-day">Day *</label>' in page
    assert 'for="id_dataset">Dataset *</label>' in page
    assert "Hour:</label>" in page
    for name, needed in (
        ("input-day", True),
        ("input-hour", False),
        ("dataset", True),
        ("name", False),
    ):
        tag = page.partition(f'name="{name}"')[2].partition(">")[0]
        assert (" required" in tag) == needed, name


def test_the_dataset_that_has_the_tables_is_chosen(flow, namespace):
    def loaded(name, *tables):
        dataset = Dataset.objects.create(namespace=namespace, name=name)
        for table in tables:
            dataset.tables.create(name=table, file=f"{name}/{table}", format="csv")
        return dataset

    def chosen(more="run/"):
        return flow.get(more).context["form"].initial["dataset"]

    def reading(*tables):
        nodes = [
            {"id": f"n{at}", "kind": "dataset.read", "data": {"inputs": {"table": table}}}
            for at, table in enumerate(tables)
        ]
        flow.post(op="replace", view="json", json=json.dumps({"nodes": nodes, "edges": []}))

    reading("orders", "customers", "orders")
    assert chosen() is None
    both, newer = (
        loaded("both", "customers", "orders"),
        loaded("newer", "orders", "customers", "more"),
    )
    part = loaded("part", "orders")
    assert chosen() == newer.pk, "the newest that has both"
    assert chosen("run/?version=1") is None, "version 1 reads none"
    reading("orders")
    assert chosen() == part.pk
    reading("orders", "${{ run.inputs.table }}")
    assert chosen() is None, "nobody knows which"
    reading("more", "${{ run.inputs.table }}")
    assert chosen() == newer.pk, "there is no other"
    start_run(flow.graph, dataset=both)
    assert chosen() == both.pk, "it was used before"


def test_a_templates_inputs_are_not_for_everybody(publish, namespace):
    graph = publish("a", inputs={"a": {"value": "${{ run.inputs.word }}"}})
    template = run_templates.from_run(
        start_run(graph, RunOptions(inputs={"word": "SECRET-WORD"})), "t", SYSTEM
    )
    user = User.objects.create_user("starter", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=["view_run", "add_run"]))
    client = Client()
    client.force_login(user)
    page = Flow(client, graph).get(f"run/?template={template.pk}")
    assert page.status_code == 200
    assert "SECRET-WORD" not in page.content.decode()
    client.post(
        page.request["PATH_INFO"],
        {"run_id": "unseen", "version": "1", "template": template.pk, "inputs": "{}"},
    )
    assert Run.objects.get(run_id="unseen").initial_data == {"word": "SECRET-WORD"}, (
        "but he may start it"
    )
