"""FlowView's pages: views, rights, odd numbers in addresses, datasets and files."""

import io
import zipfile

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from graphs.models import Dataset, Namespace, NamespaceMembership
from graphs.services import drafts
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


def test_rights(publish, namespace):
    graph = publish("a>b")
    theirs = publish_graph(Namespace.objects.create(name="beta"), "theirs", definition("a"))
    user = User.objects.create_user("viewer", is_staff=True)
    member = NamespaceMembership.objects.create(namespace=namespace, user=user, role="reader")
    client = Client()
    client.force_login(user)
    flow, hidden = Flow(client, graph), Flow(client, theirs)
    page = flow.get("?node=a").content.decode()
    assert "fl-tools" not in page
    assert client.get(HOME).status_code == 200
    assert "theirs" not in client.get(HOME).content.decode()
    assert flow.post(op="arrange").status_code == 403
    assert flow.get("publish/").status_code == 403
    assert hidden.get().status_code == 404
    member.role = "operator"
    member.save()
    assert flow.post(op="duplicate", node="a").status_code == 302
    assert set(flow.nodes) == {"a", "b", "a_2"}
    for more in ("edit", "check", "copy", "publish/", "run/", "history/1/restore"):
        assert hidden.post(more, op="duplicate", node="a").status_code == 404, more
    user.user_permissions.add(Permission.objects.get(codename="view_run"))
    hidden.client.force_login(User.objects.get(pk=user.pk))
    assert hidden.get().status_code == 200, "who may view runs everywhere sees graphs everywhere"
    assert hidden.get("run/").status_code == hidden.get("publish/").status_code == 403
    hidden.post(op="duplicate", node="a")
    assert drafts.draft_of(theirs).revision == 0
    assert (
        client.post(f"{HOME}new/", {"name": "x", "namespace": theirs.namespace_id}).status_code
        == 422
    )
    assert Client().get(flow.path).status_code == 302


@pytest.mark.parametrize("number", ["²", "٣", "-1", "9" * 5000, "x", "", "1-²"])
def test_what_is_no_number_is_no_500(flow, namespace, number):
    for more in (
        f"?view={number}",
        f"history/?version={number}",
        f"run/?template={number}",
        f"run/?version={number}",
        f"history/?page={number}",
    ):
        assert flow.get(more).status_code == 200, more
    for values in (
        {"op": "arrange", "revision": number},
        {"kind": number},
        {"op": "arrange", "seen": number, "choose": "mine"},
    ):
        assert flow.post(**values).status_code == 302, values
    for more in ("publish/", "copy", "run/"):
        assert flow.client.post(
            f"{flow.path}{more}",
            {"revision": number, "version": "draft", "op": "arrange", "template": number},
        ).status_code in (
            302,
            409,
            422,
        ), more
    assert flow.client.post(f"{HOME}examples/fan-out/", {"namespace": number}).status_code == 302


def test_datasets_are_uploaded_looked_into_and_deleted(staff, namespace):
    path = f"{HOME}datasets/"
    rows = "".join(f"{at},name {at},{at / 4}\n" for at in range(120))
    file = SimpleUploadedFile("things.csv", f"id,name,price\n{rows}".encode())
    answer = staff.post(
        path, {"namespace": namespace.pk, "name": "stuff", "encoding": "utf-8", "upload": file}
    )
    dataset = Dataset.objects.get()
    assert answer["Location"] == f"{path}{dataset.pk}/"
    page = staff.get(answer["Location"]).content.decode()
    assert 'price <span class="rm-quiet">number</span>' in page
    assert "name 49" in page
    assert "name 50" not in page
    assert "name 119" in staff.get(f"{path}{dataset.pk}/?table=things&page=3").content.decode()
    assert "fewer pages" in staff.get(f"{path}{dataset.pk}/?table=things&page=9").content.decode()
    broken = SimpleUploadedFile("bad.csv", b"a,b\n1\n")
    answer = staff.post(
        path, {"namespace": namespace.pk, "name": "bad", "encoding": "utf-8", "upload": broken}
    )
    assert answer.status_code == 422
    assert "line 2" in answer.content.decode()
    assert "stuff" in staff.get(path).content.decode()
    staff.post(f"{path}{dataset.pk}/delete")
    assert not Dataset.objects.exists()


def test_datasets_and_files_are_for_their_namespace_only(staff, publish, namespace, drain):
    from graphs.services import datasets

    dataset = datasets.load(namespace, "d", [datasets.Source("t.csv", io.BytesIO(b"a\n1\n"))])
    run = start_run(publish("read>out", kinds={"read": "dataset.read", "out": "table.export"}, inputs={
        "read": {"table": "t"}, "out": {"table": "${{ read.outputs.table }}", "name": "t.csv"},
    }), dataset=dataset)  # fmt: skip
    drain()
    user, beta = (
        User.objects.create_user("stranger", is_staff=True),
        Namespace.objects.create(name="beta"),
    )
    NamespaceMembership.objects.create(namespace=beta, user=user, role="manager")
    client = Client()
    client.force_login(user)
    home, file = (
        f"{HOME}datasets/",
        f"/admin/run-manager/run/{run.pk}/files/{run.artifacts.get().pk}/",
    )
    for path in (f"{home}{dataset.pk}/", file, f"{file}?entry=t.csv"):
        assert (client.get(path).status_code, staff.get(path).status_code) == (404, 200), path
    assert client.post(f"{home}{dataset.pk}/delete").status_code == 404
    assert "shop" not in client.get(home).content.decode()
    assert (
        client.post(
            home,
            {
                "namespace": namespace.pk,
                "name": "x",
                "upload": SimpleUploadedFile("x.csv", b"a\n1\n"),
            },
        ).status_code
        == 422
    )
    assert Dataset.objects.get() == dataset
    NamespaceMembership.objects.create(namespace=namespace, user=user, role="viewer")
    assert client.get(f"/admin/run-manager/run/{run.pk}/").status_code == 200
    for path in (f"{home}{dataset.pk}/", file):
        assert client.get(path).status_code in (403, 404), "contents are for who may see payloads"
    refused = client.post(f"{home}{dataset.pk}/delete", follow=True)
    assert refused.status_code in (403, 404) or 'class="error"' in refused.content.decode()
    assert Dataset.objects.get() == dataset


def test_files_of_runs_are_looked_into(staff, publish, namespace, drain):
    from graphs.services import datasets

    dataset = datasets.load(
        namespace, "d", [datasets.Source("t.csv", io.BytesIO(b"a,b\n1,x\n2,\n"))]
    )
    graph = publish(
        "read>out>pack", kinds={"read": "dataset.read", "out": "table.export", "pack": "zip"},
        inputs={"read": {"table": "t"}, "out": {"table": "${{ read.outputs.table }}", "name": "t.csv"}, "pack": {"files": ["${{ out.outputs.file }}"]}},
    )  # fmt: skip
    run = start_run(graph, dataset=dataset)
    drain()
    files = {file.name: file for file in run.artifacts.all()}
    path = f"/admin/run-manager/run/{run.pk}/files/"
    assert "<td>x</td>" in staff.get(f"{path}{files['t.csv'].pk}/").content.decode()
    zipped = staff.get(f"{path}{files['export.zip'].pk}/").content.decode()
    assert "?entry=t.csv" in zipped
    assert (
        "<td>x</td>" in staff.get(f"{path}{files['export.zip'].pk}/?entry=t.csv").content.decode()
    )
    assert (
        "There is no"
        in staff.get(f"{path}{files['export.zip'].pk}/?entry=../../etc/passwd").content.decode()
    )
    with zipfile.ZipFile(
        io.BytesIO(
            b"".join(
                staff.get(
                    f"/runs/{run.run_id}/artifacts/{files['export.zip'].pk}"
                ).streaming_content
            )
        )
    ) as archive:
        assert archive.namelist() == ["t.csv"]


def test_a_page_of_a_large_graph_costs_a_constant_number_of_queries(
    staff, publish, django_assert_max_num_queries
):
    large = Flow(staff, publish(" ".join(f"n{at}>n{at + 1}" for at in range(300))))
    large.get()
    with django_assert_max_num_queries(22):
        large.get()
