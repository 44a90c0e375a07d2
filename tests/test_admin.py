"""The pages of the admin: lists, runs, uploads, API keys, secrets, schedules and versions."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from graphs.models import (
    ApiKey,
    CronTrigger,
    Dataset,
    GraphVersion,
    NamespaceMembership,
    Secret,
)
from graphs.services import secrets
from runs.engine.start import start_run
from runs.models import Checkpoint, LogLine, Run, State, ToolResult

pytestmark = pytest.mark.django_db
MODELS = [
    "statemanager_graphs_namespace",
    "statemanager_graphs_apikey",
    "statemanager_graphs_registerednode",
    "statemanager_graphs_graph",
    "statemanager_graphs_graphversion",
    "statemanager_graphs_dataset",
    "statemanager_graphs_secret",
    "statemanager_graphs_crontrigger",
    "statemanager_runs_run",
    "statemanager_runs_state",
    "statemanager_runs_logline",
    "statemanager_runs_artifact",
    "statemanager_runs_toolresult",
    "statemanager_runs_checkpoint",
    "statemanager_runs_checkpointblob",
    "statemanager_runs_checkpointwrite",
    "statemanager_runs_cluster",
]


def page_text(client, name, *args):
    """The text of an admin page."""
    return client.get(reverse(f"admin:{name}", args=args)).content.decode()


@pytest.mark.parametrize("model", MODELS)
def test_a_list_opens_with_a_strict_content_security_policy(admin_client, model, run_graph):
    run_graph("a>b", kinds={"b": "test.emit"})
    response = admin_client.get(reverse(f"admin:{model}_changelist"))
    assert response.status_code == 200
    assert "default-src 'self'" in response["Content-Security-Policy"]


def test_a_run_opens_in_the_run_manager_and_cannot_be_changed_or_added(admin_client, publish):
    run = start_run(publish("a"))
    url = reverse("admin:statemanager_runs_run_change", args=[run.pk])
    assert admin_client.get(url).url == reverse("run_page", args=[run.pk])
    assert admin_client.post(url, {"status": "failed"}).status_code == 302
    assert run.status == Run.objects.get().status
    assert admin_client.get(reverse("admin:statemanager_runs_run_add")).status_code == 403


def test_the_states_of_one_run_are_listed_and_opened(admin_client, publish):
    run = start_run(publish("a"))
    state = run.states.get()
    other = start_run(publish("b", name="other"))
    url = reverse("admin:statemanager_runs_state_changelist")
    page = admin_client.get(f"{url}?run__id__exact={run.pk}").content.decode()
    assert str(state.pk) in page
    assert str(other.states.get().pk) not in page
    url = reverse("admin:statemanager_runs_state_change", args=[state.pk])
    assert admin_client.get(url).status_code == 200


@pytest.fixture
def upload(admin_client, namespace):
    """upload(("name.csv", b"…"), …): the answer to an upload of the files."""

    def send(*contents):
        files = [SimpleUploadedFile(name, data) for name, data in contents]
        form = {"namespace": namespace.pk, "name": "sales", "encoding": "utf-8", "upload": files}
        form |= {f"tables-{key}": 0 for key in ("TOTAL_FORMS", "INITIAL_FORMS")}
        return admin_client.post(reverse("admin:statemanager_graphs_dataset_add"), form)

    return send


def test_an_upload_with_errors_names_their_lines_and_stores_nothing(upload):
    answer = upload(("a.csv", b"x,y\n1\n"), ("b.jsonl", b'{"a": 1}\n[2]\n'))
    page = answer.content.decode()
    assert "a.csv, line 2: 1 values for 2 columns" in page
    assert "b.jsonl, line 2: not a JSON object" in page
    assert not Dataset.objects.exists()


def test_an_upload_makes_tables(upload):
    assert upload(("a.csv", b"x,y\n1,2\n")).status_code == 302
    assert [(table.name, table.rows) for table in Dataset.objects.get().tables.all()] == [("a", 1)]


def test_an_api_key_is_shown_once_and_only_its_hash_is_stored(admin_client, namespace):
    url = reverse("admin:statemanager_graphs_apikey_add")
    form = {"name": "ci", "scope": "read"}
    page = admin_client.post(url, form, follow=True).content.decode()
    assert "Choose at least one namespace" in page
    form["namespaces"] = [namespace.pk]
    page = admin_client.post(url, form, follow=True).content.decode()
    text = page.split("<code>")[1].split("</code>")[0]
    key = ApiKey.objects.get()
    assert text.startswith(f"sm_{key.prefix}_")
    assert text.split("_", 2)[2] not in str(vars(key))
    assert text not in page_text(admin_client, "statemanager_graphs_apikey_changelist")


def test_the_tables_of_django_q_have_no_pages(admin_client):
    assert "django_q" not in page_text(admin_client, "index")


def test_a_secret_can_be_replaced_and_is_never_shown(admin_client, publish):
    graph = publish("a")
    url = reverse("admin:statemanager_graphs_secret_add")
    form = {"graph": graph.pk, "name": "token", "value": "canary-4711"}
    assert admin_client.post(url, form).status_code == 302
    secret = Secret.objects.get()
    for text in (
        page_text(admin_client, "statemanager_graphs_secret_change", secret.pk),
        page_text(admin_client, "statemanager_graphs_secret_changelist"),
        page_text(admin_client, "statemanager_graphs_secret_history", secret.pk),
    ):
        assert "canary" not in text
        assert secret.token not in text
    url = reverse("admin:statemanager_graphs_secret_change", args=[secret.pk])
    assert admin_client.post(url, {"value": "another"}).status_code == 302
    assert secrets.reveal(graph.current_id, ["token"]) == {"token": "another"}


def test_a_secret_with_an_invalid_name_is_refused(admin_client, publish):
    form = {"graph": publish("a").pk, "name": "a/b", "value": "canary-4711"}
    answer = admin_client.post(reverse("admin:statemanager_graphs_secret_add"), form)
    assert answer.status_code == 200
    assert not Secret.objects.exists()


def test_an_invalid_schedule_is_refused(admin_client, publish):
    form = {"graph": publish("a").pk, "expression": "61 * * * *", "time_zone": "UTC"}
    url = reverse("admin:statemanager_graphs_crontrigger_add")
    page = admin_client.post(url, {**form, "enabled": "on"}).content.decode()
    assert "not a valid cron expression" in page


def test_saving_a_schedule_sets_its_next_time(admin_client, publish):
    form = {"graph": publish("a").pk, "expression": "0 9 * * *", "time_zone": "Europe/Berlin"}
    url = reverse("admin:statemanager_graphs_crontrigger_add")
    assert admin_client.post(url, {**form, "enabled": "on"}).status_code == 302
    assert CronTrigger.objects.get().next_at is not None


def test_an_old_version_can_be_made_the_current_one(admin_client, publish):
    publish("a")
    graph = publish("a>b")
    first = graph.versions.get(number=1)
    url = reverse("admin:statemanager_graphs_graphversion_changelist")
    admin_client.post(url, {"action": "make_current", "_selected_action": [first.pk]})
    graph.refresh_from_db()
    assert graph.current_id == first.pk


def test_the_documentation_pages_load_nothing_from_other_hosts(client):
    page = client.get("/docs/")
    assert page.status_code == 200
    assert "default-src 'self'" in page["Content-Security-Policy"]
    text = page.content.decode()
    assert "/static/drf_spectacular_sidecar/" in text
    assert "//cdn" not in text
    assert client.get("/docs/?script=").status_code == 200
    assert client.get("/schema").status_code == 200


@pytest.fixture
def staff(django_user_model, client):
    """staff("view_run", …): a client of a member of the staff with these permissions only."""

    def login(*permissions):
        user = django_user_model.objects.create_user("sam", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return login


PAYLOAD_PAGES = (
    ("statemanager_runs_state", State),
    ("statemanager_runs_logline", LogLine),
    ("statemanager_runs_toolresult", ToolResult),
    ("statemanager_runs_checkpoint", Checkpoint),
    ("statemanager_graphs_graphversion", GraphVersion),
)


@pytest.mark.parametrize("sees", [False, True], ids=["may not see payloads", "may"])
def test_stock_pages_show_payloads_to_those_only_who_may_see_them(staff, publish, drain, sees):
    """A marker is in every column that holds what runs work on."""
    run = start_run(publish("a", inputs={"a": {"value": "canary-literal"}}))
    drain()
    State.objects.update(
        inputs={"a": "canary-in"},
        outputs={"a": "canary-out"},
        answer={"a": "canary-answer"},
        waiting_for={"question": "canary-question"},
        error="canary-error",
    )
    LogLine.objects.create(run=run, message="canary-line")
    ToolResult.objects.create(run=run, key="k", digest="d", result={"a": "canary-result"})
    Checkpoint.objects.create(
        run=run, checkpoint_id="c", type="t", body=b"canary-body", metadata={"a": "canary-meta"}
    )
    models = [model for _, model in PAYLOAD_PAGES]
    rights = [f"view_{model._meta.model_name}" for model in models]
    client = staff(*rights, "view_run", *(["view_payload"] if sees else []))
    for name, model in PAYLOAD_PAGES:
        row = model.objects.order_by("-pk").first()
        text = page_text(client, f"{name}_changelist") + page_text(client, f"{name}_change", row.pk)
        assert ("canary" in text) == sees, (name, re.findall("canary-[a-z]*", text))


def test_nobody_makes_a_key_that_can_do_more_than_its_maker(staff, namespace, key_form):
    client = staff("add_apikey", "view_apikey", "view_run")
    url = reverse("admin:statemanager_graphs_apikey_add")
    for form in (
        {"scope": "admin", "all_namespaces": "on"},
        {"scope": "run", "namespaces": [namespace.pk]},
        {"scope": "read", "all_namespaces": "on"},
    ):
        answer = client.post(url, key_form | form)
        assert "more than you may do yourself" in answer.content.decode()
    assert not ApiKey.objects.exists()

    membership = NamespaceMembership.objects.create(
        namespace=namespace, user=get_user_model().objects.get(username="sam"), role="reader"
    )
    # A worker is given secrets and decides what becomes of runs; a reader is not and does not.
    answer = client.post(url, key_form | {"scope": "worker", "namespaces": [namespace.pk]})
    assert "more than you may do yourself" in answer.content.decode()

    membership.role = "operator"
    membership.save()
    client.post(url, key_form | {"scope": "run", "namespaces": [namespace.pk]})
    assert ApiKey.objects.get().scope == "run"


@pytest.fixture
def key_form():
    return {"name": "ci", "per_minute": 0}


def places(page):
    """The links of the navigation, as they are drawn, and the texts of those that are current."""
    rail = page.content.decode().partition('class="sm-rail"')[2].partition("<details")[0]
    links = re.findall(r"<a (.*?)>(.*?)</a>", rail, re.DOTALL)
    return links, [text.split(">")[-1].strip() for start, text in links if "aria-current" in start]


def test_the_navigation_marks_the_run_manager_with_a_database_icon(admin_client, client):
    page = "/admin/password_change/"
    links, _ = places(admin_client.get(page))
    [link] = [text for _, text in links if "Run Manager" in text]
    assert "<ellipse" in link
    client.force_login(get_user_model().objects.create_user("staff", is_staff=True))
    links, _ = places(client.get(page))
    assert [text.strip() for _, text in links] == ["Overview"]


@pytest.mark.parametrize(
    ("path", "current"),
    [
        ("/admin/", ["Overview"]),
        ("/admin/run-manager/", ["Run Manager"]),
        ("/admin/run-states/", ["Run States"]),
        ("/admin/run-manager/templates/", ["Templates"]),
        ("/admin/flow/", ["Graphs"]),
        ("/admin/run-manager/inbox/", ["Inbox"]),
        ("/admin/run-manager/schedules/", ["Schedules"]),
        ("/admin/run-manager/schedules/reruns/", ["Schedules"]),
        ("/admin/flow/datasets/", ["Datasets"]),
        ("/admin/auth/user/", []),
    ],
)
def test_the_navigation_marks_where_the_page_is(admin_client, path, current):
    assert places(admin_client.get(path))[1] == current


def test_models_with_pages_of_their_own_are_not_twice_in_the_navigation(admin_client):
    page = admin_client.get("/admin/auth/user/").content.decode()
    models = page.partition("<summary>Administration</summary>")[2].partition("</details>")[0]
    assert "/admin/auth/group/" in models
    assert "/admin/statemanager_runs/run/" not in models
    assert "/admin/statemanager_graphs/graph/" not in models


def test_a_membership_that_is_wrong_is_refused_in_words(admin_client, admin_user, namespace):
    url = reverse("admin:statemanager_graphs_namespacemembership_add")
    form = {"namespace": namespace.pk, "role": "viewer", "user": "", "group": ""}
    assert (
        "Choose a user or a group, and not both." in admin_client.post(url, form).content.decode()
    )
    form["user"] = admin_user.pk
    assert admin_client.post(url, form).status_code == 302
    again = admin_client.post(url, form).content.decode()
    assert "This user has a role in the namespace already." in again
