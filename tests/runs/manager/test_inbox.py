"""The inbox: its page, its API, and who sees and answers what."""

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client

from graphs.auth.callers import SYSTEM, caller_of_user
from graphs.models import Namespace, NamespaceMembership
from graphs.web import ttl_cache
from runs.actions.answers import MAX_ANSWERS
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import AuditEntry, State
from runs.queries import inbox
from tests.support.api_client import ApiClient
from tests.support.invariants import assert_counters_agree
from tests.support.pages import HX, LIST, page_of, text

pytestmark = pytest.mark.django_db
INBOX = f"{LIST}inbox/"
APPROVAL = {"question": "Ship it?", "fail_if_refused": False}


@pytest.fixture
def asking(publish, drain):
    """Start a graph of one approval, and let it ask."""

    def ask(run_id, graph="ships", namespace=None, **inputs):
        options = {"namespace": namespace} if namespace else {}
        drawn = publish(
            "ask>after",
            name=graph,
            kinds={"ask": "approval"},
            data={"ask": {"inputs": {**APPROVAL, **inputs}}},
            **options,
        )
        run = start_run(drawn, RunOptions(run_id=run_id))
        drain()
        return run

    return ask


def staff(name, namespace, role, group=None):
    user = User.objects.create_user(name, is_staff=True)
    NamespaceMembership.objects.create(namespace=namespace, user=user, role=role)
    if group:
        user.groups.add(Group.objects.get_or_create(name=group)[0])
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return user, client


@pytest.fixture
def api(make_key):
    return ApiClient(make_key("run"))


def form_of(*runs, **values):
    """What the form of an answer to these runs sends."""
    pks = [state_of(run).pk for run in runs]
    sent = {f"{pks[0]}-{name}": value for name, value in values.items()}
    return {"state": pks, "prefix": pks[0], **sent}


def state_of(run):
    return run.states.get(identifier="ask")


def test_a_question_is_found_and_answered_on_the_page(admin_client, asking, drain):
    run = asking("one", answer_by=3600, assignee="group:finance")
    page = text(admin_client.get(INBOX))
    assert "Ship it?" in page
    assert f'href="{page_of(run)}#answers"' in page
    assert "group:finance" in page
    link = f"{INBOX}answer/?state={state_of(run).pk}"
    assert f'href="{link}"' in page

    part = text(admin_client.get(link, headers=HX))
    assert part.startswith("<form")
    assert "Ship it?" in text(admin_client.get(link)), "without scripts, the page says the question"

    answer = form_of(run, approved="true", comment="fine")
    page = text(admin_client.post(f"{INBOX}answer/", answer, follow=True))
    assert "1 question was answered." in page
    assert "Nothing waits for an answer." in page
    drain()
    run.refresh_from_db()
    assert run.status == "completed"
    assert state_of(run).outputs["comment"] == "fine"
    assert AuditEntry.objects.filter(run=run.pk, action="answer").count() == 1
    assert_counters_agree(run)


def test_an_answer_that_does_not_fit_is_shown_again(admin_client, asking):
    run = asking("one")
    response = admin_client.post(f"{INBOX}answer/", form_of(run, comment="typed in"))
    assert response.status_code == 422
    assert "typed in" in text(response)
    assert "This field is required." in text(response)
    assert state_of(run).waiting_for


def test_many_that_ask_the_same_are_answered_at_once(admin_client, asking, drain):
    runs = [asking(f"run-{number}") for number in range(3)]
    different = asking("different", graph="other")
    link = f"{INBOX}answer/?state={state_of(runs[0]).pk}"
    assert "Answer 2 others of this node as well" in text(admin_client.get(link))
    page = text(admin_client.get(f"{INBOX}answer/?like={state_of(runs[0]).pk}"))
    assert "Answer 3 questions" in page
    chosen = [state_of(run).pk for run in runs]
    assert all(f'value="{pk}"' in page for pk in chosen)

    sent = form_of(*runs, approved="true")
    page = text(admin_client.post(f"{INBOX}answer/", sent, follow=True))
    assert "3 questions were answered." in page
    drain()
    assert all(state_of(run).status == "SUCCESS" for run in runs)
    assert state_of(different).waiting_for


def test_questions_that_take_different_answers_are_not_answered_together(
    admin_client, asking, publish, drain
):
    approval = state_of(asking("one"))
    number = start_run(publish("n", name="numbers", kinds={"n": "test.ask"}))
    drain()
    chosen = f"?state={approval.pk}&state={number.states.get().pk}"
    page = text(admin_client.get(f"{INBOX}answer/{chosen}", follow=True))
    assert "take different kinds of answers" in page


@pytest.mark.parametrize("query", ["", "?state=x", "?like=x", f"?state={SYSTEM.label}"])
def test_nothing_chosen_is_said(admin_client, query):
    page = text(admin_client.get(f"{INBOX}answer/{query}", follow=True))
    assert "Choose questions that have not been answered yet." in page


def test_answered_meanwhile_is_said(admin_client, asking, api):
    run = asking("one")
    pk = state_of(run).pk
    status, _ = api("POST", f"/runs/one/states/{pk}/answer", {"approved": True})
    assert status == 200
    sent = form_of(run, approved="false")
    page = text(admin_client.post(f"{INBOX}answer/", sent, follow=True))
    assert "Choose questions that have not been answered yet." in page


def test_mine_are_those_for_the_user_or_a_group_of_the_user(asking, namespace):
    for run_id, assignee in (
        ("for-ann", "ann"), ("for-group", "group:finance"), ("for-bob", "bob"), ("for-all", ""),
    ):  # fmt: skip
        asking(run_id, graph=run_id, assignee=assignee)
    user, client = staff("ann", namespace, "operator", "finance")
    mine = inbox.mine(inbox.waiting(caller_of_user(user)), caller_of_user(user))
    assert [state.run.run_id for state in mine] == ["for-ann", "for-group"]
    page = text(client.get(f"{INBOX}?mine=1"))
    assert "for-group" in page
    assert "for-bob" not in page
    assert "No question is assigned to you." in text(
        staff("carl", namespace, "operator")[1].get(f"{INBOX}?mine=1")
    )
    response = client.get("/inbox?mine=true")
    assert [row["assignee"] for row in response.json()["questions"]] == ["ann", "group:finance"]


def test_everybody_sees_what_they_may_see(asking, namespace):
    other = Namespace.objects.create(name="beta")
    here, there = asking("here", question="Seen?"), asking("there", "g", other, question="Secret?")
    viewer, client = staff("viewer", namespace, "viewer")
    page = text(client.get(INBOX))
    assert page_of(here) in page
    assert "Seen?" not in page, "a viewer sees no payloads"
    assert "hidden" in page
    assert page_of(there) not in page
    assert f"{INBOX}answer/" not in page
    assert inbox.count(caller_of_user(viewer)) == 0
    assert client.get(f"{INBOX}answer/?state={state_of(here).pk}").status_code == 403

    operator, client = staff("operator", namespace, "operator")
    assert inbox.count(caller_of_user(operator)) == 1
    client.post(f"{INBOX}answer/", form_of(there, approved="true"))
    assert state_of(there).waiting_for


def test_the_navigation_counts_what_the_user_may_answer(admin_client, asking, monkeypatch):
    def count():
        ttl_cache.forget()
        page = text(admin_client.get("/admin/"))
        return page.partition('class="sm-count">')[2].partition("<")[0]

    assert count() == ""
    for number in range(3):
        asking(f"run-{number}")
    assert count() == "3"
    monkeypatch.setattr(inbox, "MAX_COUNTED", 3)
    assert count() == "2+"


def test_the_api_lists_and_filters(api, asking, namespace):
    for number in range(3):
        asking(f"run-{number}", assignee="ann" if number else "")
    asking("else", graph="other", answer_by=60)
    status, first = api("GET", "/inbox?limit=2")
    assert (status, len(first["questions"])) == (200, 2)
    _, rest = api("GET", f"/inbox?limit=2&after={first['next']}")
    seen = [row["run_id"] for row in first["questions"] + rest["questions"]]
    assert seen == ["run-0", "run-1", "run-2", "else"]

    row = rest["questions"][-1]
    assert row["waiting_for"]["question"] == "Ship it?"
    assert row["identifier"] == "ask"
    assert row["graph"] == "other"
    assert row["assignee"] is None
    assert row["answer_by"]
    assert row["asked_at"]
    for query, number in (
        ("graph=ships", 3), ("graph=no", 0), (f"namespace={namespace.name}", 4),
        ("identifier=ask", 4), ("run_id=run-1", 1), ("assignee=ann", 2), ("mine=false", 4),
    ):  # fmt: skip
        assert len(api("GET", f"/inbox?{query}")[1]["questions"]) == number, query


@pytest.mark.parametrize("query", ["mine=1", "mine=x", "after=x", "limit=0", "who=ann"])
def test_the_api_refuses_what_it_cannot_read(api, query):
    status, body = api("GET", f"/inbox?{query}")
    assert status == 422, body


def test_the_api_answers_several_and_says_which_it_could_not(api, asking, drain):
    runs = [asking(f"run-{number}") for number in range(3)]
    pks = [str(state_of(run).pk) for run in runs]
    nobody = "00000000-0000-7000-8000-000000000000"
    answers = [
        {"state_id": pks[0], "answer": {"approved": True}},
        {"state_id": pks[1], "answer": {"approved": "perhaps"}},
        {"state_id": nobody, "answer": {}},
    ]
    status, body = api("POST", "/inbox/answers", {"answers": answers})
    assert status == 200
    errors = {row["state_id"]: row["error"] for row in body["results"]}
    assert errors[pks[0]] is None
    assert "approved" in errors[pks[1]]
    assert errors[nobody] == f"There is no state {nobody}."
    drain()
    assert state_of(runs[0]).status == "SUCCESS"
    assert state_of(runs[1]).waiting_for
    assert_counters_agree(runs[0])

    status, body = api("POST", "/inbox/answers", {"answers": answers[:1]})
    assert "doesn't wait for an answer" in body["results"][0]["error"]


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [{"state_id": "x", "answer": 1}],
        [{"state_id": "00000000-0000-7000-8000-000000000000"}],
        [{"state_id": "00000000-0000-7000-8000-000000000000", "answer": 1}] * 2,
        [
            {"state_id": f"00000000-0000-7000-8000-{number:012}", "answer": 1}
            for number in range(MAX_ANSWERS + 1)
        ],
    ],
)
def test_answers_that_cannot_be_read_are_refused(api, answers):
    status, body = api("POST", "/inbox/answers", {"answers": answers})
    assert status == 422, body


@pytest.mark.parametrize("assignee", [5, "x" * 157])
def test_an_assignee_has_a_limit(publish, drain, assignee):
    data = {"a": {"inputs": {"assignee": assignee}}}
    run = start_run(publish("a", kinds={"a": "test.assign"}, data=data))
    drain()
    assert run.states.get().error == "assignee is a text of up to 156 characters"


def test_a_question_of_an_old_version_is_found(asking, namespace):
    run = asking("one")
    State.objects.filter(run=run).update(namespace_key=0)
    user, client = staff("ann", namespace, "operator")
    assert page_of(run) in text(client.get(INBOX))
    assert inbox.count(caller_of_user(user)) == 1


def test_the_inbox_is_read_by_its_index(asking, namespace):
    run = asking("one")
    State.objects.bulk_create(
        State(run=run, identifier="ask", node="approval", path=str(at), namespace_key=namespace.pk)
        for at in range(3000)
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "ANALYZE statemanager_runs_state" if connection.vendor == "postgresql" else "ANALYZE"
        )
    user, _ = staff("ann", namespace, "operator")
    for caller in (SYSTEM, caller_of_user(user)):
        for states in (inbox.waiting(caller)[:50], inbox.waiting(caller).order_by()[:100]):
            assert "sm_state_asking" in states.explain()


def test_a_wrong_filter_leads_back(admin_client):
    response = admin_client.get(f"{INBOX}?graph=%00")
    assert response.status_code == 400


def test_a_client_without_a_key_is_refused(db):
    assert ApiClient()("GET", "/inbox")[0] == 401
