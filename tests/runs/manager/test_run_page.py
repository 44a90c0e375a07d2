"""A run's page and what belongs to it: tabs, logs, comparing, answering, views and columns; permissions per namespace."""

import json
import re

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.urls import reverse

from graphs.auth.callers import SYSTEM, caller_of_user
from graphs.definition import redaction
from graphs.definition.differences import differences
from graphs.models import Namespace, NamespaceMembership
from graphs.services import publish as publish_module
from runs.actions import delete
from runs.actions.rerun import RerunOptions, rerun
from runs.engine import claim, control, lease_recovery
from runs.engine.start import RunOptions, start_outside, start_run
from runs.manager.run_tabs import TABS
from runs.models import AuditEntry, Checkpoint, ColumnChoice, LogLine, Run, SavedView
from runs.queries import compare, wait_reasons
from tests.conftest import definition
from tests.html import text

pytestmark = pytest.mark.django_db
LIST = "/admin/run-manager/"
HX = {"HX-Request": "true"}


def page_of(run, tab=""):
    return f"{LIST}run/{run.pk}/{f'{tab}/' if tab else ''}"


@pytest.fixture
def failed(run_graph):
    return run_graph(
        "a>b>d a>c>d",
        RunOptions(name="<i>Monday</i>", inputs={"password": "hunter2", "n": 1}),
        kinds={"b": "test.fail", "c": "test.emit"},
    )


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_shows(admin_client, failed, tab, django_assert_max_num_queries):
    with django_assert_max_num_queries(16):
        page = text(admin_client.get(page_of(failed, "" if tab == "overview" else tab)))
    assert "&lt;i&gt;Monday&lt;/i&gt;" in page
    assert "<i>Monday" not in page
    assert "style=" not in page.split("<main", 1)[1]
    assert "hunter2" not in page


def test_the_overview_says_first_what_failed(admin_client, failed):
    page = text(admin_client.get(page_of(failed)))
    assert page.index("ValueError: broken") < page.index("rm-graph")
    assert 'data-node="b"' in page
    assert f"{LIST}rerun/{failed.pk}/?from=node&amp;node=b" in page
    assert '<button type="button" class="button" disabled>Cancel</button>' in page
    assert "The run is partial." in page, "what can't be done says why"


def test_a_page_that_is_open_gets_304_until_something_changes(
    admin_client, publish, drain, django_assert_max_num_queries
):
    run = start_run(publish("a"))
    page = text(admin_client.get(page_of(run)))
    poll = re.search(r'hx-get="([^"]+since=\d+[^"]+)"', page)[1].replace("&amp;", "&")
    with django_assert_max_num_queries(3):  # the session, the user, and one of ours
        assert admin_client.get(poll, headers=HX).status_code == 304
    drain()
    part = admin_client.get(poll, headers=HX)
    assert part.status_code == 286
    assert text(part).lstrip().startswith('<div id="rm-now"')
    assert 'id="rm-head" class="rm-head" hx-swap-oob="true"' in text(part)
    assert "completed" in text(part)
    assert "hx-trigger" not in text(part)


def test_a_deleted_run_says_who_deleted_it(admin_client, failed):
    delete.delete_run(failed, caller_of_user(User.objects.get(username="admin"), "page"))
    gone = admin_client.get(page_of(failed))
    assert gone.status_code == 410
    assert "was deleted" in text(gone)
    assert "by admin" in text(gone)
    assert admin_client.get(page_of(failed), headers=HX).status_code == 286
    assert admin_client.get(f"{LIST}run/999999/").status_code == 404


def test_why_a_run_waits_is_a_sentence(publish, drain, namespace):
    fresh = start_run(publish("a"))
    Run.objects.filter(pk=fresh.pk).update(created_at="2026-01-01T00:00Z")
    fresh.states.update(due_at="2026-01-01T00:00Z")
    assert wait_reasons.why_waiting(fresh) == [
        "1 state is ready, but no cluster is running: start one with `manage.py up` or `manage.py supervise`."
    ]
    control.pause_run(fresh, SYSTEM)
    assert wait_reasons.why_waiting(fresh)[0].startswith("It was paused by system at")
    retried = start_run(
        publish(
            "a",
            name="r",
            kinds={"a": "test.fail"},
            data={"a": {"retry": {"max_retries": 2, "backoff_factor": 60_000}}},
        )
    )
    asks = start_run(publish("a", name="q", kinds={"a": "test.ask"}))
    drain()
    for run in (retried, asks):
        run.refresh_from_db()
    assert re.match(
        r"a is tried again \(after 1 failed tries\) at \d\d:\d\d:\d\d UTC",
        wait_reasons.why_waiting(retried)[0],
    )
    assert wait_reasons.why_waiting(asks) == ["a waits for an answer: How many?"]
    assert (
        "outside program"
        in wait_reasons.why_waiting(start_outside(namespace, RunOptions(run_id="t")))[0]
    )
    control.cancel_run(asks, SYSTEM)
    assert wait_reasons.why_waiting(asks) == []


def test_a_waiting_state_is_answered_by_a_form(admin_client, publish, drain):
    run = start_run(publish("a", kinds={"a": "approval"}, inputs={"a": {"question": "Ship <it>?"}}))
    drain()
    state = run.states.get()
    page = text(admin_client.get(page_of(run)))
    assert "Ship &lt;it&gt;?" in page
    assert f'name="{state.pk}-approved"' in page
    url = f"{page_of(run)}states/{state.pk}/answer/"
    assert "This field is required" in text(admin_client.post(url, {}, follow=True))
    refused = text(
        admin_client.post(
            url,
            {
                f"{state.pk}-approved": "true",
                f"{state.pk}-comment": "kept",
                f"{state.pk}-data": "no json",
            },
        )
    )
    assert "This is no JSON" in refused
    assert "kept</textarea>" in refused, "what was written is still there"
    assert "was answered" in text(
        admin_client.post(
            url, {f"{state.pk}-approved": "true", f"{state.pk}-comment": "go"}, follow=True
        )
    )
    drain()
    state.refresh_from_db()
    assert (state.outputs["approved"], state.outputs["comment"], state.outputs["by"]) == (
        True,
        "go",
        "admin",
    )
    assert "doesn&#x27;t wait" in text(
        admin_client.post(url, {f"{state.pk}-approved": "true"}, follow=True)
    )


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
    found = text(admin_client.get(f"{page_of(run, 'logs')}?q=hello"))
    assert "1 line match" in found
    assert found.count('class="rm-info"') == 1
    assert text(admin_client.get(f"{page_of(run, 'logs')}?level=error")).count("<li id=") == 1
    assert text(admin_client.get(f"{page_of(run, 'logs')}?node=b&tail=1")).count("<li id=") == 1
    assert "No line matches" in text(admin_client.get(f"{page_of(run, 'logs')}?q=nothing"))
    more = admin_client.get(f"{page_of(run)}logs/more?after={line.pk}")
    assert more.status_code == 286, "the run has ended: the page stops asking"
    plain = admin_client.get(f"{page_of(run)}lines.log?q=hello").getvalue().decode()
    assert "info    a Hello" in plain
    rows = [
        json.loads(each)
        for each in admin_client.get(f"{page_of(run)}lines.ndjson").getvalue().splitlines()
    ]
    assert [row["node"] for row in rows if row["level"] == "error"] == ["b"]


def test_many_lines_come_in_pages(admin_client, publish):
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


def test_a_bundle_holds_all_that_is_known(admin_client, failed):
    answer = admin_client.get(f"{page_of(failed)}bundle.json")
    found = json.loads(answer.getvalue())
    assert (found["format"], found["run"]["run_id"], found["graph"]["version"]) == (
        1,
        failed.run_id,
        1,
    )
    assert found["run"]["initial_data"] == {"password": "•••", "n": 1}
    assert len(found["states"]) == 3
    assert len(found["logs"]) == failed.log_count
    assert [file["name"] for file in found["artifacts"]] == ["note.txt"]


def test_any_id_leads_to_its_run(admin_client, failed):
    assert admin_client.get(f"{LIST}find/?runId={failed.run_id}").url == page_of(failed)
    html = {"Accept": "text/html,application/xhtml+xml"}
    assert admin_client.get(f"/runs?runId={failed.run_id}", headers=html).url == page_of(failed)
    assert admin_client.get("/runs/", headers=html).url == LIST
    assert admin_client.get("/runs", headers={"Accept": "*/*"}).status_code == 404, (
        "no path of the API"
    )
    assert admin_client.get(f"{LIST}find/?runId=no%20such").url == f"{LIST}?search=no%20such"


# --- reruns and comparing ------------------------------------------------------------------------------------------------


def test_the_rerun_page_shows_what_would_happen(admin_client, failed):
    url = f"{LIST}rerun/{failed.pk}/"
    page = text(admin_client.post(url, {"from": "failed", "preview": "1"}))
    assert "1 state would run again" in page
    assert "2 would be reused" in page
    changed = text(admin_client.post(url, {"from": "start", "inputs": '{"n": 2}', "preview": "1"}))
    assert (
        '<span class="rm-sign">~</span>changed</td><th scope="row" data-label="Where"><code>n</code>'
        in changed
    )
    assert Run.objects.count() == 1
    assert "rerun from the start" in text(
        admin_client.post(url, {"from": "node", "node": "b", "inputs": '{"n": 2}'})
    )
    for wrong, said in (
        ({"at": "2020-01-01T00:00"}, "in the past"),
        ({"at": "soon"}, "is not a time"),
        ({"inputs": "[]"}, "JSON object"),
    ):
        answer = admin_client.post(url, {"from": "start", **wrong})
        assert answer.status_code == 422
        assert said in text(answer), wrong
    admin_client.post(url, {"from": "start", "at": "2030-01-01T00:00"})
    assert Run.objects.latest("pk").states.get().due_at.year >= 2029


def test_inputs_with_a_schema_get_fields(admin_client, namespace):
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1},
            "on": {"type": "boolean"},
            "how": {"enum": ["fast", "slow"]},
        },
    }
    graph = publish_module.publish(namespace, "typed", {**definition("a"), "inputs": schema})
    run = start_run(graph, RunOptions(inputs={"n": 3, "how": "fast"}))
    url = f"{LIST}rerun/{run.pk}/"
    page = text(admin_client.get(url))
    assert 'name="input-n" value="3"' in page
    admin_client.post(
        url, {"from": "start", "input-n": "4", "input-on": "true", "input-how": '"slow"'}
    )
    assert Run.objects.latest("pk").initial_data == {"n": 4, "on": True, "how": "slow"}
    assert admin_client.post(url, {"from": "start", "input-n": "0"}).status_code == 422


def test_two_runs_are_compared_in_words(admin_client, failed, drain):
    made = rerun(failed, SYSTEM, RerunOptions(inputs={"n": 2}))
    drain()
    made.refresh_from_db()
    found = compare.compare(failed, made)
    assert found.summary[:2] == ["Same graph, version 1.", "2 inputs differ."]
    page = text(admin_client.get(f"{LIST}compare/?a={failed.pk}&b={made.run_id}"))
    assert "2 inputs differ." in page
    assert "hunter2" not in page
    answer = admin_client.post(f"{LIST}compare/", {"run": [made.pk, failed.pk]})
    assert answer.url == f"{LIST}compare/?a={failed.pk}&b={made.pk}"
    assert "Select two runs" in text(
        admin_client.post(f"{LIST}compare/", {"run": [made.pk]}, follow=True)
    )
    assert "There is no run nowhere" in text(
        admin_client.get(f"{LIST}compare/?a={failed.pk}&b=nowhere")
    )


def test_the_first_divergence_is_named(run_graph):
    a = run_graph("a>b>c", inputs={"b": {"value": 1}})
    b = run_graph("a>b>c", kinds={"b": "test.fail"})
    found = compare.compare(a, b)
    assert "Same graph, version 1 → 2." in found.summary
    assert "They part at b: completed vs failed (ValueError: broken)." in found.summary
    assert [pair.node for pair in found.nodes if not pair.same] == ["b", "c"]
    assert any(each.path.endswith("kind") for each in found.definition)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"x": 1}, {"x": 1}, []),
        ({"x": 1}, {"x": True}, [("x", "~")]),
        (
            {"x": [1, {"y": 2}]},
            {"x": [1, {"y": 3}, 4], "z": None},
            [("x[1].y", "~"), ("x[2]", "+"), ("z", "+")],
        ),
        ({"x": 1}, [], [("", "~")]),
        ({"x": 1.0}, {"x": 1}, []),
    ],
)
def test_differences(a, b, expected):
    assert [(each.path, each.sign) for each in differences(a, b)] == expected


# --- views, columns, search ----------------------------------------------------------------------------------------------


def test_views_are_kept_private_or_shared(admin_client, client, failed):
    admin_client.post(f"{LIST}views/", {"name": "Mine", "query": "?status=failed"})
    admin_client.post(f"{LIST}views/", {"name": "Ours", "query": "?status=partial", "shared": "on"})
    other = User.objects.create_user("other", password="pw", is_staff=True)
    other.user_permissions.add(Permission.objects.get(codename="view_run"))
    client.force_login(other)
    page = text(client.get(LIST))
    assert 'href="/admin/run-manager/?status=partial">Ours</a>' in page
    assert ">Mine</a>" not in page
    ours = SavedView.objects.get(name="Ours")
    assert client.post(f"{LIST}views/{ours.pk}/delete/").status_code == 404
    assert admin_client.post(f"{LIST}views/{ours.pk}/delete/").status_code == 302
    assert not SavedView.objects.filter(shared=True).exists()


def test_columns_are_chosen_and_kept(admin_client, failed):
    admin_client.post(f"{LIST}columns/", {"column": ["status", "labels", "nonsense"]})
    assert ColumnChoice.objects.get().columns == ["status", "labels"]
    page = text(admin_client.get(LIST))
    assert re.findall(r'<th scope="col" class="rm-(\w+)', page)[1:] == ["name", "status", "labels"]
    assert "There is no column" in text(admin_client.get(f"{LIST}?cols=name,what"))


@pytest.fixture
def many(publish, namespace, run_graph):
    run_graph(
        "a", RunOptions(run_id="order-1", name="Order one", labels={"team": "x"}), name="orders"
    )
    run_graph(
        "a",
        RunOptions(run_id="order-2", name="Order two", labels={"team": "y", "a b__regex": "z"}),
        name="orders",
        kinds={"a": "test.fail"},
    )
    run_graph("a", RunOptions(run_id="health-1", name="Probe", workspace="ops"), name="health")
    start_outside(namespace, RunOptions(run_id="thread_9", name="status:unclear"))
    Run.objects.filter(run_id="health-1").update(created_at="2026-01-05T12:00Z")


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("order", {"order-1", "order-2"}),
        ("order t", {"order-2"}),
        ("order-*", {"order-1", "order-2"}),
        ("*-1", {"order-1", "health-1"}),
        ("status:failed", {"order-2"}),
        ("-status:completed", {"order-2", "thread_9"}),
        ("graph:orders -status:failed", {"order-1"}),
        ("graph:alpha/health", {"health-1"}),
        ("-graph:orders", {"health-1", "thread_9"}),
        ("label:team=x", {"order-1"}),
        ("label:team", {"order-1", "order-2"}),
        ("label:team__regex=x", set()),
        ("workspace:ops", {"health-1"}),
        ("created:2026-01-05", {"health-1"}),
        ("created:>2026-01-05", {"order-1", "order-2", "thread_9"}),
        ("created:<2026-01-06", {"health-1"}),
        ("error:broken", {"order-2"}),
        ("recovered:no", {"order-2"}),
        ("duration:<1h status:ended", {"order-1", "order-2", "health-1"}),
        ("has:rerun", set()),
        ('name:"Order two"', {"order-2"}),
        ("status:unclear", {"thread_9"}),
        ("what:ever", set()),
    ],
)
def test_the_search_language(admin_client, many, search, found):
    page = admin_client.get(LIST, {"search": search})
    assert set(re.findall(r'<code title="([^"]+)"', text(page))) == found
    assert ("was searched as text" in text(page)) == (search in ("status:unclear", "what:ever"))


def test_failures_leave_their_tab_when_a_rerun_completes(admin_client, run_graph, drain):
    run = run_graph("a", kinds={"a": "test.fail"})
    page = text(admin_client.get(f"{LIST}?status=failed,partial&recovered=no"))
    assert run.run_id in page
    made = rerun(run, SYSTEM)
    again = rerun(made, SYSTEM)
    Run.objects.filter(pk=again.pk).update(status="completed", finished_at="2026-01-01T00:00Z")
    page = text(admin_client.get(f"{LIST}?status=failed,partial&recovered=no"))
    assert f"run/{run.pk}/" not in page, "the rerun of its rerun completed"
    assert "recovered by" in text(admin_client.get(page_of(run)))
    tree = text(admin_client.get(page_of(made, "lineage")))
    assert tree.count('data-label="Run"') == 3


def test_live_rows_cost_one_query_while_nothing_changes(
    admin_client, publish, drain, django_assert_max_num_queries
):
    run = start_run(publish("a"))
    page = text(admin_client.get(LIST))
    poll = re.search(r'id="rm-live" hx-get="([^"]+)"', page)[1].replace("&amp;", "&")
    with django_assert_max_num_queries(3):  # the session, the user, and one of ours
        assert admin_client.get(poll, headers=HX).status_code == 304
    drain()
    other = start_run(publish("b", name="other"))
    part = text(admin_client.get(poll, headers=HX))
    assert f'<tr id="run-{run.pk}"' in part
    assert f'<tr id="run-{other.pk}"' not in part
    assert 'hx-swap-oob="true"' in part
    assert "1 new run · Show" in part
    assert "hx-trigger" not in part, "none of the rows that it shows can change any more"


def test_rows_are_sorted_by_what_has_an_index(admin_client, many):
    page = text(admin_client.get(f"{LIST}?ordering=time"))
    assert page.index("health-1") < page.index("thread_9")
    assert 'aria-sort="ascending"' in page
    assert "ordering is one of" in text(admin_client.get(f"{LIST}?ordering=name"))


def test_archived_runs_are_out_of_the_way(admin_client, many):
    run = Run.objects.get(run_id="order-1")
    admin_client.post(f"{LIST}run/{run.pk}/archive/")
    assert "order-1" not in text(admin_client.get(LIST))
    assert "1 archived run match" in text(admin_client.get(f"{LIST}?search=order-1"))
    assert "order-1" in text(admin_client.get(f"{LIST}?archived=yes"))
    active = Run.objects.get(run_id="thread_9")
    assert "only runs that have ended are archived" in text(
        admin_client.post(f"{LIST}run/{active.pk}/archive/", follow=True)
    )
    rerun(run, SYSTEM)
    admin_client.post(f"{LIST}run/{run.pk}/unarchive/")
    assert "order-1" in text(admin_client.get(LIST))


# --- permissions ---------------------------------------------------------------------------------------------------------


def test_rights_hold_in_their_namespace_only(client, failed, namespace):
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
    assert (
        client.get(f"/runs/{failed.run_id}/states").json()["states"][0]["outputs"]
        == redaction.HIDDEN
    )
    NamespaceMembership.objects.create(namespace=other, group=group, role="operator")
    client.get(LIST)
    assert "was cancelled" in text(client.post(f"{page_of(theirs)}cancel/", follow=True))
    assert client.post(f"/runs/{failed.run_id}/retry").status_code == 403
    assert AuditEntry.objects.get(action="cancel").actor == "viewer"


def test_history_tells_who_did_what_through_which_door(admin_client, failed, make_key, client):
    admin_client.post(f"{page_of(failed)}retry/")
    key = make_key("run")
    client.post(f"/runs/{failed.run_id}/cancel", headers={"X-API-Key": key})
    page = text(admin_client.get(page_of(failed, "history")))
    rows = re.findall(
        r'data-label="Who">([^<]+)</th><td data-label="Through">(\w+)</td><td data-label="Action">(\w+)',
        page,
    )
    assert [(via, what) for _, via, what in rows] == [("api", "cancel"), ("page", "retry")]
    assert reverse("admin:statemanager_runs_auditentry_changelist")


def test_a_double_click_reruns_once(admin_client, failed):
    url = f"{LIST}rerun/{failed.pk}/"
    asked = re.search(r'name="asked" value="(\w+)"', text(admin_client.get(url)))[1]
    answers = [admin_client.post(url, {"from": "start", "asked": asked}) for _ in range(2)]
    assert answers[0].url == answers[1].url
    assert Run.objects.filter(parent=failed).count() == 1
    admin_client.post(url, {"from": "start", "asked": f"{asked}x"})
    assert Run.objects.filter(parent=failed).count() == 2


def test_the_timeline_tells_the_attempts_that_lost_their_worker(admin_client, publish):
    run = start_run(publish("a"))
    for lost in range(2):
        claim.claim("w", [(["noop"], 1)], -1, claim.FactsCache(), which=f"lost_leases = {lost}")
        lease_recovery.rescue_expired()
    assert (
        len(claim.claim("w", [(["noop"], 1)], 30, claim.FactsCache(), which=claim.QUARANTINED)) == 1
    )
    page = text(admin_client.get(page_of(run, "timeline")))
    assert page.count('class="rm-ran rm-lost"') == 2
    assert page.count("a: attempt 2 lost its worker") == 1, "its own bar"
    assert page.count("<br>attempt 1 lost its worker") == 1, "and a line of the table"
    assert page.count('class="rm-ran rm-running') == 1


def test_an_open_list_drops_the_rows_of_runs_that_somebody_else_deleted(
    admin_client, publish, drain
):
    graph = publish("a")
    gone, kept = start_run(graph), start_run(graph)
    page = text(admin_client.get(LIST))
    poll = re.search(r'id="rm-live" hx-get="([^"]+)"', page)[1].replace("&amp;", "&")
    assert admin_client.get(poll, headers=HX).status_code == 304
    delete.delete_runs([gone.pk], SYSTEM, even_active=True)
    answer = text(admin_client.get(poll, headers=HX))
    assert f'<tr id="run-{gone.pk}" hx-swap-oob="delete">' in answer
    assert f'id="run-{kept.pk}" hx-swap-oob="delete"' not in answer
    again = re.search(r'id="rm-live"[^>]* hx-get="([^"]+)"', answer)[1].replace("&amp;", "&")
    assert admin_client.get(again, headers=HX).status_code == 304, (
        "the next poll knows that it is gone"
    )
