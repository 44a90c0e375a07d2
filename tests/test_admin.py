"""The admin's pages: they open, runs can't be changed, uploads say what is wrong with a file, keys
are shown once.
"""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from graphs.models import ApiKey, CronTrigger, Dataset, Secret
from graphs.services import secrets
from runs.engine.start import start_run
from runs.models import Run

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


@pytest.mark.parametrize("model", MODELS)
def test_lists_open_under_the_strict_policy(admin_client, model, run_graph):
    run_graph("a>b", kinds={"b": "test.emit"})
    response = admin_client.get(reverse(f"admin:{model}_changelist"))
    assert response.status_code == 200
    assert "default-src 'self'" in response["Content-Security-Policy"]


def test_run_page_shows_the_run_and_changes_nothing(admin_client, publish):
    run = start_run(publish("a"))
    url = reverse("admin:statemanager_runs_run_change", args=[run.pk])
    assert admin_client.get(url).url == reverse("run_page", args=[run.pk])
    assert admin_client.post(url, {"status": "failed"}).status_code == 302
    assert run.status == Run.objects.get().status
    assert admin_client.get(reverse("admin:statemanager_runs_run_add")).status_code == 403
    state = run.states.get()
    other = start_run(publish("b", name="other"))
    page = admin_client.get(
        reverse("admin:statemanager_runs_state_changelist") + f"?run__id__exact={run.pk}"
    ).content.decode()
    assert str(state.pk) in page
    assert str(other.states.get().pk) not in page
    assert (
        admin_client.get(
            reverse("admin:statemanager_runs_state_change", args=[state.pk])
        ).status_code
        == 200
    )


def test_upload_replaces_tables_or_says_what_is_wrong(admin_client, namespace):
    def upload(*files):
        content = [SimpleUploadedFile(name, data) for name, data in files]
        form = {"namespace": namespace.pk, "name": "sales", "encoding": "utf-8", "upload": content}
        form |= {f"tables-{key}": 0 for key in ("TOTAL_FORMS", "INITIAL_FORMS")}
        return admin_client.post(reverse("admin:statemanager_graphs_dataset_add"), form)

    broken = upload(("a.csv", b"x,y\n1\n"), ("b.jsonl", b'{"a": 1}\n[2]\n'))
    assert "a.csv, line 2: 1 values for 2 columns" in broken.content.decode()
    assert "b.jsonl, line 2: not a JSON object" in broken.content.decode()
    assert not Dataset.objects.exists()
    assert upload(("a.csv", b"x,y\n1,2\n")).status_code == 302
    assert [(table.name, table.rows) for table in Dataset.objects.get().tables.all()] == [("a", 1)]


def test_key_is_shown_once_and_only_its_hash_is_kept(admin_client, namespace):
    page = admin_client.post(
        reverse("admin:statemanager_graphs_apikey_add"),
        {"name": "ci", "scope": "read"},
        follow=True,
    )
    assert "Choose at least one namespace" in page.content.decode()
    page = admin_client.post(
        reverse("admin:statemanager_graphs_apikey_add"),
        {"name": "ci", "scope": "read", "namespaces": [namespace.pk]},
        follow=True,
    )
    text = page.content.decode().split("<code>")[1].split("</code>")[0]
    key = ApiKey.objects.get()
    assert text.startswith(f"sm_{key.prefix}_")
    assert text.split("_", 2)[2] not in str(vars(key))
    assert (
        text
        not in admin_client.get(
            reverse("admin:statemanager_graphs_apikey_changelist")
        ).content.decode()
    )


def test_background_hints_have_no_pages(admin_client):
    assert "django_q" not in admin_client.get(reverse("admin:index")).content.decode()


def test_a_secret_is_written_and_never_shown(admin_client, publish):
    graph = publish("a")
    form = {"graph": graph.pk, "name": "token", "value": "canary-4711"}
    assert (
        admin_client.post(reverse("admin:statemanager_graphs_secret_add"), form).status_code == 302
    )
    secret = Secret.objects.get()
    url = reverse("admin:statemanager_graphs_secret_change", args=[secret.pk])
    for page in (
        url,
        reverse("admin:statemanager_graphs_secret_changelist"),
        reverse("admin:statemanager_graphs_secret_history", args=[secret.pk]),
    ):
        text = admin_client.get(page).content.decode()
        assert "canary" not in text
        assert secret.token not in text
    assert admin_client.post(url, {"value": "another"}).status_code == 302
    assert secrets.reveal(graph.current_id, ["token"]) == {"token": "another"}
    assert (
        admin_client.post(
            reverse("admin:statemanager_graphs_secret_add"), {**form, "name": "a/b"}
        ).status_code
        == 200
    )
    assert Secret.objects.count() == 1


def test_a_schedule_is_judged_when_it_is_saved(admin_client, publish):
    graph, url = publish("a"), reverse("admin:statemanager_graphs_crontrigger_add")
    wrong = admin_client.post(
        url, {"graph": graph.pk, "expression": "61 * * * *", "time_zone": "UTC", "enabled": "on"}
    )
    assert "not a valid cron expression" in wrong.content.decode()
    assert (
        admin_client.post(
            url,
            {
                "graph": graph.pk,
                "expression": "0 9 * * *",
                "time_zone": "Europe/Berlin",
                "enabled": "on",
            },
        ).status_code
        == 302
    )
    assert CronTrigger.objects.get().next_at is not None


def test_a_former_version_is_made_the_current_one(admin_client, publish):
    publish("a")
    graph = publish("a>b")
    first = graph.versions.get(number=1)
    url = reverse("admin:statemanager_graphs_graphversion_changelist")
    admin_client.post(url, {"action": "make_current", "_selected_action": [first.pk]})
    graph.refresh_from_db()
    assert graph.current_id == first.pk


def test_the_documentation_pages_fetch_nothing_from_elsewhere(client):
    page = client.get("/docs/")
    assert page.status_code == 200
    assert "default-src 'self'" in page["Content-Security-Policy"]
    text = page.content.decode()
    assert "/static/drf_spectacular_sidecar/" in text
    assert "//cdn" not in text
    assert client.get("/docs/?script=").status_code == 200
    assert client.get("/schema").status_code == 200
