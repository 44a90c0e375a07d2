"""The page of a run: tabs, logs, answers, files, history, and rights per namespace."""

import json
import re

import pytest
from django.contrib.auth.models import Group, User
from django.urls import reverse

from graphs.auth.callers import SYSTEM, caller_of_user
from graphs.definition import redaction
from graphs.models import Namespace, NamespaceMembership
from runs.actions import delete
from runs.engine import control, lease_recovery
from runs.engine.new_run import RunOptions
from runs.engine.start import start_outside, start_run
from runs.manager.run_page import TABS
from runs.models import AuditEntry, Checkpoint, LogLine, Run
from runs.queries import wait_reasons
from tests.support.engine import claimed, claimed_again
from tests.support.pages import HX, LIST, page_of, text

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_can_be_shown(admin_client, failed, tab, django_assert_max_num_queries):
    with django_assert_max_num_queries(16):
        page = text(admin_client.get(page_of(failed, "" if tab == "overview" else tab)))
    assert "&lt;i&gt;Monday&lt;/i&gt;" in page
    assert "<i>Monday" not in page
    assert "style=" not in page.split("<main", 1)[1]
    assert "hunter2" not in page


@pytest.mark.parametrize("tab", [tab for tab in TABS if tab != "overview"])
def test_the_header_of_every_tab_follows_an_active_run(admin_client, publish, drain, tab):
    run = start_run(publish("a"))
    page = text(admin_client.get(page_of(run, tab)))
    poll = re.search(r'id="rm-watch" hx-get="([^"]+)"', page)[1].replace("&amp;", "&")
    assert admin_client.get(poll, headers=HX).status_code == 304
    drain()
    changed = admin_client.get(poll, headers=HX)
    assert changed.status_code == 286, "the run has ended, and so does the polling"
    part = text(changed)
    assert "hx-get" not in re.match(r'<div id="rm-watch"[^>]*>', part)[0]
    assert re.search(r'id="rm-head"[^>]* hx-swap-oob="true".*completed', part, re.DOTALL)
    assert re.search(r'id="rm-tools"[^>]* hx-swap-oob="true"', part)
    page = text(admin_client.get(page_of(run, tab)))
    assert "hx-get" not in re.search(r'<div id="rm-watch"[^>]*>', page)[0]


def test_a_tab_of_a_run_that_is_deleted_says_so(admin_client, publish):
    run = start_run(publish("a"))
    page = text(admin_client.get(page_of(run, "logs")))
    poll = re.search(r'id="rm-watch" hx-get="([^"]+)"', page)[1].replace("&amp;", "&")
    delete.delete_run(run, even_active=True)
    gone = admin_client.get(poll, headers=HX)
    assert (gone.status_code, "deleted" in text(gone)) == (286, True)
    other = User.objects.create_user("other", is_staff=True)
    admin_client.force_login(other)
    assert admin_client.get(poll, headers=HX).status_code in (302, 404)


def test_the_overview_begins_with_what_failed(admin_client, failed):
    page = text(admin_client.get(page_of(failed)))
    assert page.index("ValueError: broken") < page.index("rm-graph")
    assert 'data-node="b"' in page
    assert f"{LIST}rerun/{failed.pk}/?from=node&amp;node=b" in page
    disabled = '<button type="button" class="button" aria-describedby="rm-why-cancel" disabled>'
    assert f"{disabled}Cancel</button>" in page
    assert '<span class="rm-quiet" id="rm-why-cancel">The run is partial.</span>' in page
    actions = page.partition('id="rm-tools"')[2].partition("<nav")[0]
    assert actions.count('class="button default"') == 1, "one action is the primary one"
    before_menu = actions.partition("<details")[0]
    assert re.findall(r">([^<>]+)</(?:a|button)>", before_menu) == [
        "Rerun failed states", "Rerun", "Retry in place",
    ]  # fmt: skip


def test_an_open_page_gets_304_until_something_changes(
    admin_client, publish, drain, django_assert_max_num_queries
):
    run = start_run(publish("a"))
    page = text(admin_client.get(page_of(run)))
    poll = re.search(r'hx-get="([^"]+since=\d+[^"]+)"', page)[1].replace("&amp;", "&")
    with django_assert_max_num_queries(3):  # The session, the user, and the run.
        assert admin_client.get(poll, headers=HX).status_code == 304
    drain()
    part = admin_client.get(poll, headers=HX)
    assert part.status_code == 286
    assert text(part).lstrip().startswith('<div id="rm-now"')
    assert 'id="rm-head" class="rm-head" hx-swap-oob="true"' in text(part)
    assert "completed" in text(part)
    assert "hx-trigger" not in text(part)


def test_the_page_of_a_deleted_run_names_the_person_who_deleted_it(admin_client, failed):
    delete.delete_run(failed, caller_of_user(User.objects.get(username="admin"), "page"))
    answer = admin_client.get(page_of(failed))
    assert answer.status_code == 410
    assert "was deleted" in text(answer)
    assert "by admin" in text(answer)
    assert admin_client.get(page_of(failed), headers=HX).status_code == 286
    assert admin_client.get(f"{LIST}run/999999/").status_code == 404


def test_why_a_run_waits_for_a_cluster_or_is_paused(publish):
    run = start_run(publish("a"))
    Run.objects.filter(pk=run.pk).update(created_at="2026-01-01T00:00Z")
    run.states.update(due_at="2026-01-01T00:00Z", claim_at="2026-01-01T00:00Z")
    assert wait_reasons.why_waiting(run) == [
        "1 state is ready, but no cluster is running:"
        " start one with `manage.py up` or `manage.py supervise`."
    ]
    control.pause_run(run, SYSTEM)
    assert wait_reasons.why_waiting(run)[0].startswith("It was paused by system at")


def test_why_a_run_waits_for_a_retry(publish, drain):
    run = start_run(
        publish(
            "a",
            kinds={"a": "test.fail"},
            data={"a": {"retry": {"max_retries": 2, "backoff_factor": 60_000}}},
        )
    )
    drain()
    run.refresh_from_db()
    assert re.match(
        r"a is tried again \(after 1 failed attempt\) at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC",
        wait_reasons.why_waiting(run)[0],
    )


def test_why_a_run_waits_for_an_answer(publish, drain):
    run = start_run(publish("a", name="q", kinds={"a": "test.ask"}))
    drain()
    run.refresh_from_db()
    assert wait_reasons.why_waiting(run) == ["a waits for an answer: How many?"]
    control.cancel_run(run, SYSTEM)
    assert wait_reasons.why_waiting(run) == []


def test_why_an_external_run_waits(namespace):
    run = start_outside(namespace, RunOptions(run_id="t"))
    assert "outside program" in wait_reasons.why_waiting(run)[0]


def test_a_waiting_state_is_answered_with_a_form(admin_client, publish, drain):
    run = start_run(publish("a", kinds={"a": "approval"}, inputs={"a": {"question": "Ship <it>?"}}))
    drain()
    state = run.states.get()
    page = text(admin_client.get(page_of(run)))
    assert "Ship &lt;it&gt;?" in page
    assert f'name="{state.pk}-approved"' in page
    url = f"{page_of(run)}states/{state.pk}/answer/"
    assert "This field is required" in text(admin_client.post(url, {}, follow=True))

    approved = {f"{state.pk}-approved": "true"}
    wrong = {f"{state.pk}-comment": "typed", f"{state.pk}-data": "no json"}
    refused = text(admin_client.post(url, approved | wrong))
    assert "This is not valid JSON" in refused
    assert "typed</textarea>" in refused, "the form still shows what was typed"

    comment = {f"{state.pk}-comment": "go"}
    assert "was answered" in text(admin_client.post(url, approved | comment, follow=True))
    drain()
    state.refresh_from_db()
    assert (state.outputs["approved"], state.outputs["comment"]) == (True, "go")
    assert state.outputs["by"] == "admin"
    assert "doesn&#x27;t wait" in text(admin_client.post(url, approved, follow=True))


def test_logs_are_searched_filtered_followed_and_downloaded(admin_client, publish, drain):
    run = start_run(
        publish(
            "a>b",
            kinds={"a": "log", "b": "test.fail"},
            inputs={"a": {"message": "Hello \x1b[31m\u202e <b>"}},
        )
    )
    drain()
    run.refresh_from_db()
    page = text(admin_client.get(page_of(run, "logs")))
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;b&gt;" in page
    line = LogLine.objects.get(message__startswith="Hello")
    assert f'id="L{line.pk}"' in page

    results = text(admin_client.get(f"{page_of(run, 'logs')}?q=hello"))
    assert "1 line match" in results
    assert results.count('class="rm-info"') == 1
    errors = text(admin_client.get(f"{page_of(run, 'logs')}?level=error"))
    assert errors.count("<li id=") == 2, "the traceback and the error"
    assert text(admin_client.get(f"{page_of(run, 'logs')}?node=b&tail=1")).count("<li id=") == 2
    assert "No line matches" in text(admin_client.get(f"{page_of(run, 'logs')}?q=nothing"))
    more = admin_client.get(f"{page_of(run)}logs/more?after={line.pk}")
    assert more.status_code == 286, "the run has ended, so the page stops polling"

    as_text = admin_client.get(f"{page_of(run)}lines.log?q=hello").getvalue().decode()
    assert "info    a Hello" in as_text
    as_json = admin_client.get(f"{page_of(run)}lines.ndjson").getvalue().splitlines()
    lines = [json.loads(line) for line in as_json]
    assert [line["node"] for line in lines if line["level"] == "error"] == ["b", "b"]


def test_a_long_log_has_pages(admin_client, publish):
    run = start_run(publish("a"))
    LogLine.objects.bulk_create(LogLine(run=run, message=f"line {at}") for at in range(1200))
    Run.objects.filter(pk=run.pk).update(log_count=1201)
    page = text(admin_client.get(page_of(run, "logs")))
    assert page.count("<li id=") == 500
    assert "1,201 lines" in page
    following = re.search(r'\?&amp;after=(\d+)">Next lines', page)[1]
    assert "line 499" in text(admin_client.get(f"{page_of(run, 'logs')}?after={following}"))
    assert "line 1199" in text(admin_client.get(f"{page_of(run, 'logs')}?tail=1"))


def test_checkpoints_are_listed_and_never_unpickled(admin_client, namespace):
    run = start_outside(namespace, RunOptions(run_id="t"))
    Checkpoint.objects.create(
        run=run,
        checkpoint_id="c1",
        type="pickle",
        body=b"\x80\x04boom",
        metadata={"step": 3, "source": "loop"},
    )
    page = text(admin_client.get(page_of(run, "checkpoints")))
    assert "c1" in page
    assert "6\xa0bytes" in page
    assert ">3<" in page


def test_a_bundle_contains_everything_about_a_run(admin_client, failed):
    answer = admin_client.get(f"{page_of(failed)}bundle.json")
    bundle = json.loads(answer.getvalue())
    assert (bundle["format"], bundle["graph"]["version"]) == (1, 1)
    assert bundle["run"]["run_id"] == failed.run_id
    assert bundle["run"]["initial_data"] == {"password": "•••", "n": 1}
    assert len(bundle["states"]) == 3
    assert len(bundle["logs"]) == failed.log_count
    assert [file["name"] for file in bundle["artifacts"]] == ["note.txt"]


def test_any_id_leads_to_its_run(admin_client, failed):
    assert admin_client.get(f"{LIST}find/?runId={failed.run_id}").url == page_of(failed)
    html = {"Accept": "text/html,application/xhtml+xml"}
    assert admin_client.get(f"/runs?runId={failed.run_id}", headers=html).url == page_of(failed)
    assert admin_client.get("/runs/", headers=html).url == LIST
    listed = admin_client.get("/runs", headers={"Accept": "*/*"}).json()
    assert [run["id"] for run in listed["runs"]] == [failed.run_id]
    assert admin_client.get(f"{LIST}find/?runId=no%20such").url == f"{LIST}?search=no%20such"


def test_a_role_gives_rights_in_its_namespace_only(client, failed, namespace):
    other = Namespace.objects.create(name="other")
    theirs = start_outside(other, RunOptions(run_id="theirs"))
    user = User.objects.create_user("viewer", password="pw", is_staff=True)
    group = Group.objects.create(name="crew")
    user.groups.add(group)
    NamespaceMembership.objects.create(namespace=namespace, user=user, role="viewer")
    client.force_login(user)
    page = text(client.get(LIST))
    assert failed.run_id in page
    assert "theirs" not in page
    assert client.get(page_of(theirs)).status_code == 404
    detail = text(client.get(page_of(failed)))
    assert "You may not rerun runs in this namespace." in detail
    assert "The log is hidden" in text(client.get(page_of(failed, "logs")))
    assert "hidden: you may not see inputs" in text(client.get(page_of(failed, "states")))
    assert client.get(f"{page_of(failed)}lines.log").status_code == 403
    assert client.post(f"{LIST}bulk/delete/", {"run": failed.pk}).status_code == 403
    states = client.get(f"/runs/{failed.run_id}/states").json()["states"]
    assert states[0]["outputs"] == redaction.HIDDEN

    NamespaceMembership.objects.create(namespace=other, group=group, role="operator")
    client.get(LIST)
    assert "was cancelled" in text(client.post(f"{page_of(theirs)}cancel/", follow=True))
    assert client.post(f"/runs/{failed.run_id}/retry").status_code == 403
    assert AuditEntry.objects.get(action="cancel").actor == "viewer"


def test_the_history_shows_who_did_what_and_how(admin_client, failed, make_key, client):
    admin_client.post(f"{page_of(failed)}retry/")
    key = make_key("run")
    client.post(f"/runs/{failed.run_id}/cancel", headers={"X-API-Key": key})
    page = text(admin_client.get(page_of(failed, "history")))
    rows = re.findall(
        r'data-label="Who">([^<]+)</th><td data-label="Through">(\w+)</td>'
        r'<td data-label="Action">(\w+)',
        page,
    )
    assert [(via, action) for _, via, action in rows] == [("api", "cancel"), ("page", "retry")]
    assert reverse("admin:statemanager_runs_auditentry_changelist")


def test_the_timeline_shows_the_attempts_that_lost_their_worker(admin_client, publish):
    run = start_run(publish("a"))
    for lost in range(2):
        (claimed_again if lost else claimed)(seconds=-1)
        lease_recovery.rescue_expired()
    assert len(claimed_again()) == 1

    page = text(admin_client.get(page_of(run, "timeline")))
    assert page.count('class="rm-ran rm-lost"') == 2
    assert page.count("a: attempt 2 lost its worker") == 1, "as a bar of its own"
    assert page.count("<br>attempt 1 lost its worker") == 1, "and as a line of the table"
    assert page.count('class="rm-ran rm-running') == 1


def test_the_page_shows_the_context_and_what_was_emitted(admin_client, run_graph):
    run = run_graph("a>b c", kinds={"a": "test.fail", "c": "test.emit"})
    assert run.emitted
    data = text(admin_client.get(page_of(run, "data")))
    assert "<h2>Context</h2>" in data
    for name in ("plan", "total_steps", "executed_nodes", "skipped_nodes", "total_emitted"):
        assert name in data
    head = text(admin_client.get(page_of(run)))
    assert f"<dt>Rows emitted</dt><dd>{run.emitted}</dd>" in head
