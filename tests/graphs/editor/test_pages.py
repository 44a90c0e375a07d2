"""FlowView's pages: views, rights, invalid numbers in URLs, datasets and files."""

import io
import zipfile

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from graphs.models import Dataset, Namespace, NamespaceMembership
from graphs.services import dataset_files, datasets, drafts
from graphs.services.publish import publish_graph
from runs.engine.start import start_run
from tests.support.definitions import definition
from tests.support.flow_client import HOME, Flow

pytestmark = pytest.mark.django_db


def test_each_view_shows_the_graph(flow):
    for view in ("picture", "list", "json"):
        page = flow.get(f"?view={view}&node=b").content.decode()
        assert "none: it can run" in page or view == "json"
        assert "noop" in page
    assert 'data-node="a"' in flow.get().content.decode()
    assert "a.outputs.value" in flow.get("?node=b").content.decode()
    assert flow.get("?node=nowhere&view=nonsense").status_code == 200
    assert flow.get("?start=a&end=b").content.decode().count("Disconnect") == 1


@pytest.fixture
def foreign_graph():
    """A graph "theirs" in the namespace beta."""
    return publish_graph(Namespace.objects.create(name="beta"), "theirs", definition("a"))


@pytest.fixture
def member(namespace):
    """member("operator"): a client of a staff user with this role in the namespace alpha."""

    def login(role):
        user = User.objects.create_user("member", is_staff=True)
        NamespaceMembership.objects.create(namespace=namespace, user=user, role=role)
        client = Client()
        client.force_login(user)
        return client

    return login


def test_a_reader_sees_a_graph_but_no_tools_to_change_it(member, publish):
    client = member("reader")
    flow = Flow(client, publish("a>b"))
    assert "fl-tools" not in flow.get("?node=a").content.decode()
    assert client.get(HOME).status_code == 200
    assert flow.post(op="arrange").status_code == 403
    assert flow.get("publish/").status_code == 403


def test_an_operator_changes_a_graph(member, publish):
    flow = Flow(member("operator"), publish("a>b"))
    assert flow.post(op="duplicate", node="a").status_code == 302
    assert set(flow.nodes) == {"a", "b", "a_2"}


def test_graphs_of_other_namespaces_do_not_exist_for_a_member(member, publish, foreign_graph):
    publish("a>b")
    client = member("operator")
    hidden = Flow(client, foreign_graph)
    assert "theirs" not in client.get(HOME).content.decode()
    assert hidden.get().status_code == 404
    for action in ("edit", "check", "copy", "publish/", "run/", "history/1/restore"):
        assert hidden.post(action, op="duplicate", node="a").status_code == 404, action


def test_the_permission_to_view_runs_shows_all_graphs_and_changes_none(member, foreign_graph):
    client = member("operator")
    user = User.objects.get(username="member")
    user.user_permissions.add(Permission.objects.get(codename="view_run"))
    client.force_login(user)
    flow = Flow(client, foreign_graph)
    assert flow.get().status_code == 200
    assert flow.get("run/").status_code == flow.get("publish/").status_code == 403
    flow.post(op="duplicate", node="a")
    assert drafts.draft_of(foreign_graph).revision == 0
    form = {"name": "x", "namespace": foreign_graph.namespace_id}
    assert client.post(f"{HOME}new/", form).status_code == 422


def test_an_anonymous_user_is_sent_to_the_login(publish):
    assert Client().get(Flow(None, publish("a>b")).path).status_code == 302


@pytest.mark.parametrize("number", ["²", "٣", "-1", "9" * 5000, "x", "", "1-²"])
def test_text_in_place_of_a_number_is_no_server_error(flow, namespace, number):
    for query in (
        f"?view={number}",
        f"history/?version={number}",
        f"run/?template={number}",
        f"run/?version={number}",
        f"history/?page={number}",
    ):
        assert flow.get(query).status_code == 200, query
    for values in (
        {"op": "arrange", "revision": number},
        {"kind": number},
        {"op": "arrange", "seen": number, "choose": "mine"},
    ):
        assert flow.post(**values).status_code == 302, values
    form = {"revision": number, "version": "draft", "op": "arrange", "template": number}
    for action in ("publish/", "copy", "run/"):
        assert flow.client.post(f"{flow.path}{action}", form).status_code in (302, 409, 422), action
    assert flow.client.post(f"{HOME}examples/fan-out/", {"namespace": number}).status_code == 302


DATASETS = f"{HOME}datasets/"


@pytest.fixture
def upload(staff, namespace):
    """upload("name", "file.csv", content): the answer to an upload of one file."""

    def send(name, file_name, content):
        file = SimpleUploadedFile(file_name, content)
        form = {"namespace": namespace.pk, "name": name, "encoding": "utf-8", "upload": file}
        return staff.post(DATASETS, form)

    return send


def test_an_uploaded_dataset_is_shown_page_by_page_and_can_be_deleted(staff, upload):
    rows = "".join(f"{at},name {at},{at / 4}\n" for at in range(120))
    answer = upload("stuff", "things.csv", f"id,name,price\n{rows}".encode())
    dataset = Dataset.objects.get()
    path = f"{DATASETS}{dataset.pk}/"
    assert answer["Location"] == path
    page = staff.get(path).content.decode()
    assert 'price <span class="rm-quiet">number</span>' in page
    assert "name 49" in page
    assert "name 50" not in page
    assert "name 119" in staff.get(f"{path}?table=things&page=3").content.decode()
    assert "fewer pages" in staff.get(f"{path}?table=things&page=9").content.decode()
    assert "stuff" in staff.get(DATASETS).content.decode()
    staff.post(f"{path}delete")
    assert not Dataset.objects.exists()


def test_an_upload_with_a_broken_row_names_its_line(upload):
    answer = upload("bad", "bad.csv", b"a,b\n1\n")
    assert answer.status_code == 422
    assert "line 2" in answer.content.decode()


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_a_preview_shows_the_delimiter_and_stores_nothing(staff, namespace, headers):
    file = SimpleUploadedFile("x.csv", b"name;price\nx;1,5\n")
    form = {"namespace": namespace.pk, "name": "", "encoding": "utf-8", "upload": file}
    answer = staff.post(DATASETS, {**form, "preview": "1"}, headers=headers)
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "columns separated by: semicolon" in page
    assert "<td>1,5</td>" in page
    assert ("Choose the files again" in page) is not bool(headers)
    assert not Dataset.objects.exists()


def test_a_delimiter_that_only_people_know_is_chosen_on_the_page(staff, namespace):
    def send(**fields):
        file = SimpleUploadedFile("x.csv", b"text\na;b\n")
        form = {"namespace": namespace.pk, "name": "d", "encoding": "utf-8", "upload": file}
        return staff.post(DATASETS, {**form, **fields})

    refused = send()
    assert refused.status_code == 422
    assert "comma or semicolon" in refused.content.decode()
    assert send(delimiter="comma").status_code == 302


@pytest.fixture
def dataset(namespace):
    """A dataset with the table "t"."""
    source = dataset_files.Source("t.csv", io.BytesIO(b"a,b\n1,x\n2,\n"))
    return datasets.load(namespace, "d", [source])


@pytest.fixture
def exported(publish, drain, dataset):
    """A run that made the files t.csv and export.zip, which contains t.csv."""
    graph = publish(
        "read>out>pack",
        kinds={"read": "dataset.read", "out": "table.export", "pack": "zip"},
        inputs={
            "read": {"table": "t"},
            "out": {"table": "${{ read.outputs.table }}", "name": "t.csv"},
            "pack": {"files": ["${{ out.outputs.file }}"]},
        },
    )
    run = start_run(graph, dataset=dataset)
    drain()
    return run


def test_datasets_and_files_are_shown_only_in_their_namespace(staff, namespace, dataset, exported):
    user = User.objects.create_user("stranger", is_staff=True)
    beta = Namespace.objects.create(name="beta")
    NamespaceMembership.objects.create(namespace=beta, user=user, role="manager")
    client = Client()
    client.force_login(user)
    artifact = exported.artifacts.get(name="t.csv")
    archive = exported.artifacts.get(name="export.zip")
    dataset_path = f"{DATASETS}{dataset.pk}/"
    files = f"/admin/run-manager/run/{exported.pk}/files/"

    for path in (
        dataset_path,
        f"{files}{artifact.pk}/",
        f"{files}{artifact.pk}/?entry=t.csv",
        f"{files}{archive.pk}/?entry=t.csv",
    ):
        assert (client.get(path).status_code, staff.get(path).status_code) == (404, 200), path
    assert client.post(f"{dataset_path}delete").status_code == 404
    assert "shop" not in client.get(DATASETS).content.decode()
    upload = SimpleUploadedFile("x.csv", b"a\n1\n")
    form = {"namespace": namespace.pk, "name": "x", "upload": upload}
    assert client.post(DATASETS, form).status_code == 422
    assert Dataset.objects.get() == dataset

    NamespaceMembership.objects.create(namespace=namespace, user=user, role="viewer")
    assert client.get(f"/admin/run-manager/run/{exported.pk}/").status_code == 200
    for path in (dataset_path, f"{files}{artifact.pk}/"):
        assert client.get(path).status_code in (403, 404), "a viewer sees no payloads"
    refused = client.post(f"{dataset_path}delete", follow=True)
    assert refused.status_code in (403, 404) or 'class="error"' in refused.content.decode()
    assert Dataset.objects.get() == dataset


def test_those_who_may_only_look_see_by_which_inputs_runs_are_searched(client, namespace, publish):
    graph = publish("a", settings={"indexed_inputs": ["customer.id"]})
    user = User.objects.create_user("bob", is_staff=True)
    NamespaceMembership.objects.create(namespace=namespace, user=user, role="reader")
    client.force_login(user)
    page = client.get(f"/admin/graphs/graph/{graph.pk}/flow/").content.decode()
    assert "Runs are searched by these inputs: <code>customer.id</code>" in page


def test_a_table_and_the_files_of_an_archive_are_shown(staff, exported):
    files = {file.name: file for file in exported.artifacts.all()}
    path = f"/admin/run-manager/run/{exported.pk}/files/"
    archive_path = f"{path}{files['export.zip'].pk}/"
    assert "<td>x</td>" in staff.get(f"{path}{files['t.csv'].pk}/").content.decode()
    assert "?entry=t.csv" in staff.get(archive_path).content.decode()
    assert "<td>x</td>" in staff.get(f"{archive_path}?entry=t.csv").content.decode()
    outside = staff.get(f"{archive_path}?entry=../../etc/passwd").content.decode()
    assert "There is no" in outside


def test_an_archive_is_downloaded(staff, exported):
    artifact = exported.artifacts.get(name="export.zip")
    answer = staff.get(f"/runs/{exported.run_id}/artifacts/{artifact.pk}")
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as archive:
        assert archive.namelist() == ["t.csv"]


def test_a_page_of_a_large_graph_costs_a_constant_number_of_queries(
    staff, publish, django_assert_max_num_queries
):
    large = Flow(staff, publish(" ".join(f"n{at}>n{at + 1}" for at in range(300))))
    large.get()
    with django_assert_max_num_queries(22):
        large.get()
