"""The admin's pages: they open, runs can't be changed, uploads say what is wrong with a file, keys are shown once."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from graphs.models import ApiKey, Dataset
from runs.starting import start_run

pytestmark = pytest.mark.django_db
MODELS = [
    "graphs_namespace", "graphs_apikey", "graphs_registerednode", "graphs_graph", "graphs_graphversion", "graphs_dataset", "runs_run", "runs_state",
    "runs_logline", "runs_artifact", "runs_toolresult", "runs_checkpoint", "runs_checkpointblob", "runs_checkpointwrite", "runs_cluster",
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_lists_open_under_the_strict_policy(admin_client, model, run_graph):
    run_graph("a>b", kinds={"b": "test.emit"})
    response = admin_client.get(reverse(f"admin:{model}_changelist"))
    assert response.status_code == 200
    assert "default-src 'self'" in response["Content-Security-Policy"]


def test_run_page_shows_the_run_and_changes_nothing(admin_client, publish):
    run = start_run(publish("a"))
    url = reverse("admin:runs_run_change", args=[run.pk])
    assert run.run_id in admin_client.get(url).content.decode()
    assert admin_client.post(url, {"status": "failed"}).status_code == 403
    assert admin_client.get(reverse("admin:runs_run_add")).status_code == 403
    state = run.states.get()
    assert admin_client.get(reverse("admin:runs_state_change", args=[state.pk])).status_code == 200


def test_upload_replaces_tables_or_says_what_is_wrong(admin_client, namespace):
    def upload(*files):
        content = [SimpleUploadedFile(name, data) for name, data in files]
        form = {"namespace": namespace.pk, "name": "sales", "encoding": "utf-8", "upload": content}
        form |= {f"tables-{key}": 0 for key in ("TOTAL_FORMS", "INITIAL_FORMS")}
        return admin_client.post(reverse("admin:graphs_dataset_add"), form)

    broken = upload(("a.csv", b"x,y\n1\n"), ("b.jsonl", b'{"a": 1}\n[2]\n'))
    assert "a.csv, line 2: 1 values for 2 columns" in broken.content.decode()
    assert "b.jsonl, line 2: not a JSON object" in broken.content.decode()
    assert not Dataset.objects.exists()
    assert upload(("a.csv", b"x,y\n1,2\n")).status_code == 302
    assert [(table.name, table.rows) for table in Dataset.objects.get().tables.all()] == [("a", 1)]


def test_key_is_shown_once_and_only_its_hash_is_kept(admin_client, namespace):
    page = admin_client.post(reverse("admin:graphs_apikey_add"), {"name": "ci", "scope": "read"}, follow=True)
    assert "Choose at least one namespace" in page.content.decode()
    page = admin_client.post(reverse("admin:graphs_apikey_add"), {"name": "ci", "scope": "read", "namespaces": [namespace.pk]}, follow=True)
    text = page.content.decode().split("<code>")[1].split("</code>")[0]
    key = ApiKey.objects.get()
    assert text.startswith(f"sm_{key.prefix}_")
    assert text.split("_", 2)[2] not in str(vars(key))
    assert text not in admin_client.get(reverse("admin:graphs_apikey_changelist")).content.decode()


def test_background_hints_have_no_pages(admin_client):
    assert "django_q" not in admin_client.get(reverse("admin:index")).content.decode()
