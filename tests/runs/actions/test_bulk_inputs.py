"""A bulk rerun with changed inputs, over REST, on the page and by command."""

from io import StringIO

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command

from graphs.auth import api_keys
from graphs.auth.callers import SYSTEM
from graphs.services.publish import publish_graph
from runs.actions import bulk_inputs, bulk_runner, run_templates
from runs.engine.create_states import create_states
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.models import AuditEntry, BulkOperation, Run, RunTemplate
from tests.support.api_client import ApiClient
from tests.support.definitions import definition

pytestmark = pytest.mark.django_db
REST = "/admin/run-manager/bulk-operations"
PAGE = "/admin/run-manager/bulk/rerun/"
SCHEMA = {"properties": {"n": {"type": "integer"}, "m": {}}, "additionalProperties": False}


@pytest.fixture
def runs(namespace, publish):
    """Runs with a schema, without one, of an outside program, and made state by state."""
    strict = publish_graph(namespace, "strict", {**definition("a"), "inputs": SCHEMA})
    free = publish("a", name="free")
    made = [
        start_run(strict, RunOptions(run_id="strict", inputs={"n": 1, "m": {"deep": 1}})),
        start_run(free, RunOptions(run_id="free", inputs={"value": 1})),
        start_outside(namespace, RunOptions(run_id="outside", inputs={"x": [1]})),
        create_states(free, "states", [("a", {"n": 1, "o": 2})], bulk_runner.caller_of_command())[
            0
        ],
    ]
    return {run.run_id: run for run in made}


@pytest.fixture
def admin(namespace):
    return ApiClient(api_keys.create_key((), "admin")[1])


def body(inputs, **params):
    return {"action": "rerun", "filter": {}, "params": {"inputs": inputs, **params}}


def reruns():
    return {run.parent.run_id: run.initial_data for run in Run.objects.exclude(parent=None)}


def test_the_inputs_are_merged_over_those_of_each_run(admin, runs):
    status, operation = admin("POST", REST, body({"n": 5, "m": None}))
    assert (status, operation["total"]) == (202, 4)
    bulk_runner.run_waiting(60)
    assert admin("GET", f"{REST}/{operation['id']}")[1]["failed"] == 0
    assert reruns() == {
        "strict": {"n": 5, "m": None},
        "free": {"value": 1, "n": 5, "m": None},
        "outside": {"x": [1], "n": 5, "m": None},
        "states": {"n": 5, "m": None},
    }
    assert Run.objects.get(run_id="states_rerun_1").states.get().inputs == {"n": 5, "o": 2}
    assert {run.run_id: run.initial_data for run in runs.values()}["strict"]["n"] == 1


def test_the_audit_trail_says_that_inputs_were_changed_but_not_to_what(admin, runs):
    admin("POST", REST, {**body({"n": 123456}), "reason": "wrong limit"})
    entry = AuditEntry.objects.get(action="bulk_rerun")
    assert entry.detail == "4 runs with other inputs; wrong limit"
    bulk_runner.run_waiting(60)
    entries = AuditEntry.objects.filter(action="rerun")
    assert {"with other inputs" in entry.detail for entry in entries} == {True}
    assert not AuditEntry.objects.filter(detail__contains="123456")


@pytest.mark.parametrize(
    ("inputs", "params", "message"),
    [
        ({"n": "x"}, {}, "strict: n: "),
        ({"other": 1}, {}, "strict: inputs: "),
        ({"n": "x"}, {"version": "newest"}, "strict: n: "),
        ([1], {}, "`inputs` is an object"),
        ("x", {}, "`inputs` is an object"),
        (None, {}, "`inputs` is an object"),
        ({"n": 1}, {"from": "failed"}, "from the start"),
        ({"n": "\x00"}, {}, "can't be stored"),
        ({"n": "x" * 3_000_000}, {}, "can't be stored"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_wrong_inputs_are_refused_before_any_run_starts(
    admin, runs, inputs, params, message, dry_run
):
    status, answer = admin("POST", REST, {**body(inputs, **params), "dry_run": dry_run})
    assert (status, message in str(answer)) == (422, True), answer
    assert not BulkOperation.objects.exists()
    assert not reruns()


def test_the_newest_version_decides_if_it_is_the_one_that_runs(admin, runs, namespace):
    publish_graph(namespace, "strict", definition("a"))
    ids = {"action": "rerun", "ids": ["strict"]}
    wrong = {"inputs": {"n": "x"}}
    assert admin("POST", REST, {**ids, "params": wrong})[0] == 422
    assert admin("POST", REST, {**ids, "params": {**wrong, "version": "newest"}})[0] == 202
    bulk_runner.run_waiting(60)
    assert reruns()["strict"]["n"] == "x"


def test_more_runs_than_are_checked_are_refused(admin, runs, monkeypatch):
    monkeypatch.setattr(bulk_inputs, "MAX_RUNS", 3)
    status, answer = admin("POST", REST, body({"n": 1}))
    assert (status, "at most 3" in str(answer)) == (422, True)
    assert admin("POST", REST, {"action": "rerun", "filter": {}})[0] == 202


def test_problems_show_nothing_to_those_who_may_not_see_payloads(client, runs, namespace):
    schema = {"properties": {"n": {"type": "string"}}}
    publish_graph(namespace, "strict", {**definition("a"), "inputs": schema})
    start_run(runs["free"].graph, RunOptions(run_id="secret", inputs={"n": 987654}))
    user = User.objects.create_user("ann", is_staff=True)
    codes = ("view_run", "rerun_run")
    user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    client.force_login(user)
    wrong = body({"m": 1}, version="newest")
    answer = client.post(REST, wrong, content_type="application/json")
    assert (answer.status_code, "strict: they do not fit" in answer.content.decode()) == (422, True)


def test_the_page_asks_for_the_inputs_and_keeps_what_was_typed(admin_client, runs):
    selected = {"run": [runs["strict"].pk, runs["free"].pk]}
    asked = admin_client.post(PAGE, selected).content.decode()
    assert "Changed inputs" in asked
    assert '<textarea id="rm-inputs"' in asked
    for typed, message in (
        ('{"n": ', "not valid JSON"),
        ("[1]", "JSON object"),
        ('{"n": "x"}', "n:"),
    ):
        form = {**selected, "confirmed": "1", "inputs": typed, "version": "newest"}
        answer = admin_client.post(PAGE, form)
        page = answer.content.decode()
        assert (answer.status_code, message in page) == (422, True), page
        assert typed.replace('"', "&quot;") in page
        assert 'value="newest" checked' in page
    assert not BulkOperation.objects.exists()
    form = {**selected, "confirmed": "1", "inputs": '{"n": 7}'}
    done = admin_client.post(PAGE, form, follow=True).content.decode()
    assert "2 runs were run again." in done
    assert reruns() == {"strict": {"n": 7, "m": {"deep": 1}}, "free": {"value": 1, "n": 7}}


def test_without_changed_inputs_the_page_reruns_as_before(admin_client, runs):
    form = {"run": [runs["strict"].pk], "confirmed": "1", "inputs": "  "}
    admin_client.post(PAGE, form)
    assert reruns() == {"strict": {"n": 1, "m": {"deep": 1}}}


def test_the_command_takes_the_inputs_as_json(runs):
    def command(inputs):
        options = {"filter": "search=id:free", "param": [f"inputs={inputs}"], "yes": True}
        call_command("bulk", "rerun", stdout=StringIO(), stderr=StringIO(), **options)

    with pytest.raises(CommandError, match="must be JSON"):
        command("{")
    command('{"value": 2}')
    assert reruns() == {"free": {"value": 2}}


def test_inputs_that_no_longer_fit_are_not_quoted_to_who_may_not_see_them(runs, namespace, client):
    """The newest version of a graph may refuse what the run was given."""
    template = run_templates.from_run(runs["strict"], "t", SYSTEM)
    schema = {"properties": {"n": {"enum": ["other"]}}}
    publish_graph(namespace, "strict", {**definition("a"), "inputs": schema})
    blind = User.objects.create_user("blind", password="pw", is_staff=True)
    rights = Permission.objects.filter(content_type__app_label__startswith="statemanager_")
    blind.user_permissions.set(rights.exclude(codename="view_payload"))
    Run.objects.filter(run_id="strict").update(initial_data={"n": "canary"})
    RunTemplate.objects.update(inputs={"n": "canary"})
    client.force_login(blind)
    page = f"/admin/run-manager/rerun/{runs['strict'].pk}/"
    answers = [
        client.post("/rerun/strict", {"version": "newest"}, content_type="application/json"),
        client.post(f"/templates/{template.pk}/launch", {}, content_type="application/json"),
        client.post(page, {"from": "start", "version": "newest"}),
    ]
    for answer in answers:
        content = answer.content.decode()
        assert (answer.status_code, "canary" in content) == (422, False), content
        assert "may not see" in content
