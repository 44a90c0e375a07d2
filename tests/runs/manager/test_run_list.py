"""The pages of the Run Manager: the list, deletions, reruns and exports, and the states of runs.

They work without JavaScript, and answer the requests of htmx with the part that changes.
"""

import csv
import io
import json
import re

import pytest
from django.contrib.auth.models import Permission, User
from django.http import QueryDict
from django.urls import reverse

from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.models import AuditEntry, BulkOperation, Run
from tests.support.pages import HX, LIST, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def stored(namespace):
    """Sixty external runs, six of which failed."""
    for at in range(60):
        start_outside(
            namespace, RunOptions(run_id=f"thread_{at:02d}", name=f"Order {at}" if at % 2 else "")
        )
    Run.objects.filter(run_id__endswith="7").update(
        status="failed", finished_at="2026-01-01T00:00Z", error_message="broken <b>pipe</b>"
    )


def test_the_pages_need_the_right_to_view_runs(client, stored):
    assert client.get(LIST).url == f"{reverse('admin:login')}?next={LIST}"
    plain = User.objects.create_user("plain", password="pw")
    staff = User.objects.create_user("staff", password="pw", is_staff=True)
    viewer = User.objects.create_user("viewer", password="pw", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_run"))
    for user in (plain, staff):
        client.force_login(user)
        assert client.get(LIST).url == "/admin/"
    client.force_login(viewer)
    page = text(client.get(LIST))
    assert "thread_59" in page
    assert ">Delete<" not in page
    assert "Rerun thread" not in page
    assert client.post(f"{LIST}bulk/delete/", {"run": Run.objects.first().pk}).status_code == 403
    assert client.get(f"{LIST}rerun/{Run.objects.first().pk}/").status_code == 403
    assert "Run Manager" in text(client.get("/admin/"))
    client.force_login(staff)
    assert "Run Manager" not in text(client.get("/admin/"))


def test_the_list_has_pages_and_filters(admin_client, stored):
    page = text(admin_client.get(LIST))
    assert page.count('name="run"') == 50
    assert "60 runs" in page
    assert "Page 1 of 2" in page
    assert 'href="/admin/run-manager/?page=2"' in page
    assert text(admin_client.get(f"{LIST}?page=2")).count('name="run"') == 10
    results = text(admin_client.get(f"{LIST}?search=order%207&page_size=25"))
    assert "1 run match" in results
    assert "broken &lt;b&gt;pipe&lt;/b&gt;" in results
    assert 'class="rm-badge rm-failed"' in results
    assert "error</span>" in results
    assert "No run matches" in text(admin_client.get(f"{LIST}?search=nothing"))
    assert text(admin_client.get(f"{LIST}?status=failed")).count('name="run"') == 6


def test_parameters_that_are_ignored_are_mentioned(admin_client, stored):
    page = text(admin_client.get(f"{LIST}?page_size=500&status=WHAT&page=x"))
    assert "page_size is a number from 1 to 200" in page
    assert "page is a number from 1" in page
    assert "&#x27;WHAT&#x27; is none of" in page
    assert page.count('name="run"') == 50
    assert "There is no page 9" in text(admin_client.get(f"{LIST}?page=9"))


def test_htmx_gets_the_part_that_changes_and_polls_only_while_runs_are_active(admin_client, stored):
    part = admin_client.get(f"{LIST}?search=thread", headers={"HX-Request": "true"})
    assert text(part).lstrip().startswith('<div id="runs">')
    assert "every 5s" in text(part)
    assert "HX-Request" in part["Vary"]
    Run.objects.update(status="completed", finished_at="2026-01-01T00:00Z")
    assert "every 5s" not in text(admin_client.get(LIST))


def test_the_page_has_no_inline_styles_and_scripts(admin_client, stored):
    page = admin_client.get(LIST)
    assert "default-src 'self'" in page["Content-Security-Policy"]
    assert "style=" not in text(page).split("<main", 1)[1]
    assert "onclick" not in text(page)


def test_an_empty_list_explains_how_to_begin(admin_client, db):
    assert "There are no runs yet" in text(admin_client.get(LIST))


def test_the_list_costs_a_constant_number_of_queries(
    admin_client, stored, django_assert_max_num_queries
):
    admin_client.get(LIST)
    with django_assert_max_num_queries(16):
        admin_client.get(LIST)


def test_runs_are_deleted_after_a_question_that_lists_what_is_deleted(
    admin_client, run_graph, publish
):
    done = run_graph("a>b", kinds={"b": "test.emit"})
    active = start_run(publish("a", name="other"))
    selection = {"run": [done.pk, active.pk], "back": f"{LIST}?search=x"}
    url = f"{LIST}bulk/delete/"
    page = text(admin_client.post(url, selection))
    assert "Delete 2 runs?" in page
    assert "3 states" in page
    assert "1 file (5\xa0bytes)" in page
    assert "1 of them is still active" in page
    assert Run.objects.count() == 2

    answer = admin_client.post(url, {**selection, "confirmed": "1"}, follow=True)
    operation = BulkOperation.objects.get()
    assert answer.redirect_chain == [(f"{LIST}operations/{operation.pk}/", 302)]
    assert "1 of 2 deleted, 1 failed" in text(answer)
    assert "cancel it first" in text(answer)
    assert list(Run.objects.values_list("pk", flat=True)) == [active.pk]
    entry = AuditEntry.objects.get(action="delete")
    assert (entry.run, entry.run_id) == (done.pk, done.run_id)
    assert (entry.actor, entry.via, entry.operation) == ("admin", "page", operation.pk)

    selection |= {"confirmed": "1", "active": "delete"}
    answer = admin_client.post(url, selection, follow=True)
    assert answer.redirect_chain == [(f"{LIST}?search=x", 302)]
    assert "1 run was deleted." in text(answer)

    answer = admin_client.post(url, {"run": [done.pk, "x"]}, follow=True)
    assert "no longer exist" in text(answer)


@pytest.mark.parametrize("action", ["delete", "rerun"])
def test_a_bulk_action_needs_at_least_one_run(admin_client, action):
    answer = admin_client.post(f"{LIST}bulk/{action}/", {}, follow=True)
    assert "Choose at least one run" in text(answer)


def test_a_run_is_rerun_after_a_question(admin_client, run_graph, publish, drain):
    run = run_graph("a")
    publish("a>b")
    url = f"{LIST}rerun/{run.pk}/"
    page = text(admin_client.get(f"{url}?back=%3Fpage%3D2"))
    assert "version 2, the newest" in page
    assert 'href="/admin/run-manager/?page=2"' in page
    answer = admin_client.post(url, {"version": "newest"})
    new_run = Run.objects.get(parent=run)
    assert answer.url == reverse("run_page", args=[new_run.pk])
    assert new_run.version.number == 2
    assert new_run.initial_data == run.initial_data

    admin_client.post(url, {"inputs": '{"value": 2}'})
    changed = Run.objects.get(run_id=f"{run.run_id}_rerun_2")
    assert (changed.initial_data, changed.version.number) == ({"value": 2}, 1)
    assert "with other inputs" in changed.logs.last().message
    wrong = admin_client.post(url, {"inputs": "{"})
    assert (wrong.status_code, "This is not valid JSON" in text(wrong)) == (422, True)
    assert admin_client.get(f"{LIST}rerun/999999/").status_code == 404


def test_the_link_back_never_leaves_the_site(admin_client, run_graph):
    run = run_graph("a")
    form_data = {"run": run.pk, "confirmed": "1", "back": "https://example.org/?x=1"}
    answer = admin_client.post(f"{LIST}bulk/delete/", form_data)
    assert answer.url == LIST


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "\u202eevil",
        "a\u0007b",
        "=1+1",
        '"><img src=x onerror=alert(1)>',
    ],
)
def test_hostile_names_are_escaped(admin_client, namespace, name):
    start_outside(namespace, RunOptions(run_id="t", name=name))
    page = text(admin_client.get(LIST))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "<bdi>" in page


def test_a_run_is_paused_resumed_retried_and_cancelled_on_its_page(admin_client, publish, drain):
    run = start_run(publish("a", kinds={"a": "test.fail"}))
    page = reverse("run_page", args=[run.pk])

    def offered():
        return [
            verb
            for verb in ("cancel", "pause", "resume", "retry")
            if f"run-manager/run/{run.pk}/{verb}/" in text(admin_client.get(page))
        ]

    def click(verb):
        return text(admin_client.post(f"{LIST}run/{run.pk}/{verb}/", follow=True))

    assert offered() == ["cancel", "pause"]
    assert "was paused" in click("pause")
    assert offered() == ["cancel", "resume"]
    assert "You can&#x27;t pause a run" in click("pause")
    click("resume")
    drain()
    assert offered() == ["retry"]
    click("retry")
    run.refresh_from_db()
    assert run.status == "running"
    click("cancel")
    run.refresh_from_db()
    assert run.status == "cancelled"
    entries = AuditEntry.objects.filter(run=run.pk).order_by("pk")
    actions = [entry.action for entry in entries]
    assert actions == ["pause", "resume", "retry", "cancel"]


def test_an_action_must_exist_and_be_posted(admin_client, publish):
    run = start_run(publish("a"))
    assert admin_client.post(f"{LIST}run/{run.pk}/explode/").status_code == 404
    assert admin_client.get(f"{LIST}run/{run.pk}/cancel/").status_code == 405


def test_tabs_show_how_many_runs_they_lead_to(admin_client, stored):
    page = text(admin_client.get(f"{LIST}?search=thread&page=2"))
    assert 'All <span class="rm-number">60' in page
    assert 'Active <span class="rm-number">54' in page
    assert (
        'href="/admin/run-manager/?search=thread&amp;page=1&amp;status=failed%2Cpartial">'
        'Failed <span class="rm-number">6</span></a>' in page
    )
    assert 'aria-current="true">Failed <span class="rm-number">6' in text(
        admin_client.get(f"{LIST}?status=failed,partial")
    )


def test_selected_runs_are_cancelled_and_rerun(admin_client, publish, run_graph):
    ended = run_graph("a")
    active = start_run(publish("a"))
    page = text(admin_client.post(f"{LIST}bulk/cancel/", {"run": [ended.pk, active.pk]}))
    assert "Cancel 2 runs?" in page
    assert "1 of them can't do this in its current status" in page
    active.refresh_from_db()
    assert active.status == "queued"

    form_data = {"run": [ended.pk, active.pk], "confirmed": "1"}
    answer = text(admin_client.post(f"{LIST}bulk/cancel/", form_data, follow=True))
    assert "1 of 2 cancelled, 1 failed" in answer
    assert "You can&#x27;t cancel a run" in answer

    form_data["back"] = f"{LIST}?page=1"
    answer = text(admin_client.post(f"{LIST}bulk/rerun/", form_data, follow=True))
    assert "2 runs were run again." in answer
    assert Run.objects.filter(trigger="rerun").count() == 2
    assert AuditEntry.objects.filter(action__in=("cancel", "rerun")).count() == 3


def test_the_runs_that_match_are_exported(
    admin_client, stored, namespace, django_assert_max_num_queries
):
    start_outside(namespace, RunOptions(run_id="evil", name="=HYPERLINK(1)"))
    start_outside(namespace, RunOptions(run_id="evil-2", name='with "quotes", and commas'))
    admin_client.get(f"{LIST}export.csv?search=x").getvalue()  # the first reads the collation, too
    with django_assert_max_num_queries(4):
        answer = admin_client.get(f"{LIST}export.csv?search=evil&page=7")
        content = answer.getvalue().decode()
    rows = list(csv.DictReader(io.StringIO(content)))
    assert answer["Content-Disposition"] == 'attachment; filename="runs.csv"'
    assert [(row["run_id"], row["name"], row["namespace"], row["result"]) for row in rows] == [
        ("evil-2", 'with "quotes", and commas', "alpha", "queued"),
        ("evil", "'=HYPERLINK(1)", "alpha", "queued"),
    ]
    lines = admin_client.get(f"{LIST}export.jsonl?status=failed").getvalue().decode().splitlines()
    assert len(lines) == 6
    assert json.loads(lines[0])["error_message"] == "broken <b>pipe</b>"
    assert admin_client.get(f"{LIST}export.xls").status_code == 404
    assert "export.csv?search=evil" in text(admin_client.get(f"{LIST}?search=evil"))


@pytest.mark.parametrize("query", ["status=lost", "created_after=x", "since=x&search=evil"])
def test_nothing_is_exported_for_a_filter_that_is_wrong(admin_client, stored, query):
    answer = admin_client.get(f"{LIST}export.csv?{query}", follow=True)
    assert answer.redirect_chain == [(f"{LIST}?{QueryDict(query).urlencode()}", 302)]
    assert "Nothing was exported" in text(answer)
    assert not AuditEntry.objects.filter(action="export").exists()


STATES = "/admin/run-states/"
STATE = "<details><summary>Inputs"


def test_run_states_shows_runs_as_cards_and_the_states_of_the_selected_one(admin_client, run_graph):
    run = run_graph(
        "f>a>x",
        RunOptions(run_id="the-run"),
        kinds={"f": "test.each", "x": "test.fail"},
        inputs={"f": {"items": ["one", "<b>two</b>"]}},
    )
    page = text(admin_client.get(STATES))
    assert f'href="?run={run.pk}#states"' in page
    assert "<dt>States</dt><dd>6</dd>" in page
    assert "<dt>Runs</dt><dd>1</dd>" in page
    assert "<dt>Completed states</dt><dd>4</dd>" in page
    assert "States of" not in page
    page = text(admin_client.get(f"{STATES}?run={run.pk}"))
    assert page.count(STATE) == 6
    assert "&lt;b&gt;two&lt;/b&gt;" in page
    assert "SUCCESS</span> 4" in page
    assert "ERRORED</span> 2" in page

    errored = text(admin_client.get(f"{STATES}?run={run.pk}&status=ERRORED"))
    assert errored.count(STATE) == 2
    queued = text(admin_client.get(f"{STATES}?run={run.pk}&status=QUEUED"))
    assert "no states that are QUEUED" in queued
    assert "There is no run 999" in text(admin_client.get(f"{STATES}?run=999"))
    page = text(admin_client.get(f"{STATES}?run={run.pk}&after=nonsense"))
    assert page.count(STATE) == 6


def test_run_states_reaches_every_run(admin_client, stored):
    runs = {run.run_id: run for run in Run.objects.all()}
    seen, address = [], STATES
    while address:
        page = text(admin_client.get(address))
        seen += re.findall(r'<code title="(thread_\d+)">', page)
        link = re.search(r'<a href="([^"]+)">Older runs', page)
        address = link and STATES + link[1].replace("&amp;", "&")
    assert seen == sorted(runs, reverse=True)

    page = text(admin_client.get(f"{STATES}?search=thread_07"))
    assert re.findall(r'<code title="(thread_\d+)">', page) == ["thread_07"]
    link = f"?search=thread_07&amp;run={runs['thread_07'].pk}#states"
    assert f'href="{link}"' in page
    chosen = text(admin_client.get(STATES + link.replace("&amp;", "&")))
    assert "States of" in chosen
    assert 'value="thread_07"' in chosen
    found = text(admin_client.get(f"{STATES}?search=status:failed"))
    assert found.count("<code title=") == 6
    assert "No runs match" in text(admin_client.get(f"{STATES}?search=nothing"))
    assert "searched as text" in text(admin_client.get(f"{STATES}?search=color:red"))
    assert admin_client.get(f"{STATES}?page=x").status_code == 200

    options = text(admin_client.get(f"{LIST}choices/runs/?field=search&search=thread_0"))
    assert re.findall('value="([^"]+)"', options) == [f"thread_{at:02d}" for at in range(10)]


def test_run_states_is_refreshed_while_something_can_change(admin_client, publish, drain):
    run = start_run(publish("a"), RunOptions(run_id="r"))
    page = text(admin_client.get(f"{STATES}?run={run.pk}"))
    poll = re.search(r'hx-get="([^"]+known=[^"]+)"', page)[1].replace("&amp;", "&")
    assert admin_client.get(f"{STATES}{poll}", headers=HX).status_code == 304
    drain()
    part = text(admin_client.get(f"{STATES}{poll}", headers=HX))
    assert part.startswith('<div id="rm-cards"')
    assert "completed" in part
    assert '<div id="rm-chosen" hx-swap-oob="true">' in part
    assert "SUCCESS" in part
    assert "<dt>Completed states</dt><dd>1</dd>" in part
    assert "hx-trigger" in part, "the first page waits for runs that start"
    older = text(admin_client.get(f"{STATES}?page=2")).partition('id="rm-cards"')[2]
    assert "hx-trigger" not in older, "nothing on this page changes any more"


def test_the_states_of_a_long_run_have_pages(admin_client, run_graph):
    run = run_graph("f", kinds={"f": "test.each"}, inputs={"f": {"items": list(range(130))}})
    page = text(admin_client.get(f"{STATES}?run={run.pk}"))
    assert page.count(STATE) == 100
    following = page.split("after=", 1)[1].split("#", 1)[0]
    page = text(admin_client.get(f"{STATES}?run={run.pk}&after={following}"))
    assert page.count(STATE) == 30


def test_a_run_is_started_from_the_page(admin_client, publish, namespace):
    graph = publish("a")
    answer = admin_client.post(
        f"{STATES}start/", {"graph": graph.pk, "run_id": "mine", "inputs": '{"value": 1}'}
    )
    run = Run.objects.get(run_id="mine")
    assert answer.url == f"{STATES}?run={run.pk}"
    assert (run.trigger, run.initial_data, run.username) == ("admin", {"value": 1}, "admin")
    for wrong, message in (
        ({"inputs": "{"}, "This is not valid JSON"),
        ({"inputs": "[1]"}, "JSON object"),
        ({"run_id": "a/b"}, "contain slashes"),
        ({"graph": 999}, "valid choice"),
    ):
        page = admin_client.post(f"{STATES}start/", {"graph": graph.pk, **wrong})
        assert page.status_code == 422
        assert message in text(page), wrong
    assert Run.objects.count() == 1


def test_run_states_needs_the_right_to_view_runs(client, db):
    assert client.get(STATES).status_code == 302
    viewer = User.objects.create_user("viewer", password="pw", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_run"))
    client.force_login(viewer)
    page = client.get(STATES)
    assert "Start a run" not in text(page)
    assert "There are no runs yet" in text(page)
    assert client.post(f"{STATES}start/").status_code == 403


def test_run_states_costs_a_constant_number_of_queries(
    admin_client, run_graph, django_assert_max_num_queries
):
    run = run_graph("f>a", kinds={"f": "test.each"}, inputs={"f": {"items": list(range(40))}})
    admin_client.get(STATES)
    with django_assert_max_num_queries(10):
        admin_client.get(f"{STATES}?run={run.pk}")
