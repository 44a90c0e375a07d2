"""The orderings of the list are the same on the page, over REST and in exports."""

import csv
import json
from datetime import timedelta

import pytest
from django.utils import timezone

from graphs.models import Dataset
from runs.actions import bulk_runner, export
from runs.manager.columns import COLUMNS
from runs.models import BulkOperation, Run
from runs.queries.orderings import ORDERINGS
from tests.support.pages import LIST, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def runs(publish, namespace):
    """Runs whose every column is larger the higher their number; the last one has not ended."""
    now = timezone.now()
    for at in range(4):
        graph = publish("a", name=f"g{at}")
        run = Run.objects.create(
            namespace=namespace,
            run_id=f"r{at}",
            name=f"n{at}",
            graph=graph,
            version=graph.current,
            dataset=Dataset.objects.create(namespace=namespace, name=f"d{at}"),
            username=f"u{at}",
            workspace=f"w{at}",
            session_id=f"s{at}",
            trigger=sorted(Run.Trigger.values)[at],
            labels={"k": f"{at}"},
            rerun_count=at,
            progress=at,
            current_node=f"c{at}",
            status=["cancelled", "completed", "failed", "running"][at],
            created_at=now + timedelta(seconds=at),
            started_at=now,
            finished_at=None if at == 3 else now + timedelta(minutes=at),
        )
    return run


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_every_column_sorts_at_every_door(runs, admin_client, ordering):
    name = ordering.removeprefix("-")
    expected = ["r0", "r1", "r2", "r3"]
    if name == "namespace":
        expected.reverse()  # all have the same one, so the newest is first
    elif ordering.startswith("-"):
        expected.reverse()
        if name == "duration":
            expected = ["r2", "r1", "r0", "r3"]  # it has no duration yet
    answer = admin_client.get(f"{LIST}runs?ordering={ordering}").json()
    assert [row["id"] for row in answer["runs"]] == expected

    page = text(admin_client.get(f"{LIST}?ordering={ordering}&cols=id,{name}"))
    assert sorted(expected, key=lambda run_id: page.index(f'title="{run_id}"')) == expected
    direction = "descending" if ordering.startswith("-") else "ascending"
    assert f'aria-sort="{direction}"' in page

    lines = admin_client.get(f"{LIST}export.jsonl?cols=id,{name}&ordering={ordering}").getvalue()
    assert [json.loads(line)["id"] for line in lines.splitlines()] == expected


def test_every_column_of_the_list_can_be_sorted_by_and_exported():
    assert {name.removeprefix("-") for name in ORDERINGS} == set(COLUMNS) == set(export.LISTED)


def test_an_unknown_ordering_is_refused(admin_client, runs):
    answer = admin_client.get(f"{LIST}runs?ordering=cost")
    assert (answer.status_code, "ordering is one of" in answer.content.decode()) == (422, True)


def test_the_links_export_what_the_list_shows(admin_client, runs):
    page = text(admin_client.get(f"{LIST}?cols=name,duration,labels&ordering=-name"))
    for form in export.FORMATS:
        link = f"{LIST}export.{form}?cols=name%2Cduration%2Clabels&amp;ordering=-name"
        assert f'href="{link}"' in page
    query = "?cols=name,duration,labels&ordering=-name"
    array = json.loads(admin_client.get(f"{LIST}export.json{query}").getvalue())
    assert array[1] == {"name": "n2", "duration": 120.0, "labels": {"k": "2"}}
    lines = admin_client.get(f"{LIST}export.jsonl{query}").getvalue().decode().splitlines()
    assert [json.loads(line) for line in lines] == array
    table = admin_client.get(f"{LIST}export.csv{query}").getvalue().decode().splitlines()
    assert list(csv.reader(table))[:3] == [
        ["name", "duration", "labels"],
        ["n3", "", "k=3"],
        ["n2", "120.0", "k=2"],
    ]
    assert json.loads(admin_client.get(f"{LIST}export.json?status=paused").getvalue()) == []


def test_an_operation_over_rest_links_its_file(admin_client, runs, own_storage):
    params = {"format": "json", "columns": ["name", "status"], "ordering": "-name"}
    body = {"action": "export", "filter": {"status": "completed,failed"}, "params": params}
    url = f"{LIST}bulk-operations"
    operation = admin_client.post(url, body, content_type="application/json").json()
    assert operation["file"] is None
    missing = f"{url}/{operation['id']}/file"
    assert admin_client.get(missing).status_code == 404
    bulk_runner.run_waiting()
    done = admin_client.get(f"{url}/{operation['id']}").json()
    assert (done["status"], done["done"], done["file"]) == ("done", 2, missing)
    answer = admin_client.get(done["file"])
    assert answer["Content-Disposition"] == 'attachment; filename="runs.json"'
    assert json.loads(answer.getvalue()) == [
        {"name": "n2", "status": "failed"},
        {"name": "n1", "status": "completed"},
    ]


@pytest.mark.parametrize(
    "params", [{"columns": ["cost"]}, {"columns": 1}, {"ordering": "cost"}, {"format": "xls"}]
)
def test_an_export_that_cannot_be_written_is_refused(admin_client, runs, params):
    body = {"action": "export", "filter": {}, "params": params}
    answer = admin_client.post(f"{LIST}bulk-operations", body, content_type="application/json")
    assert answer.status_code == 422
    assert not BulkOperation.objects.exists()


def test_the_form_exports_the_view_of_the_list(admin_client, runs, own_storage):
    selection = {"all": "1", "back": f"{LIST}?cols=name,graph&ordering=-name"}
    page = text(admin_client.post(f"{LIST}bulk/export/", selection))
    shown = page.split('name="shown" value="')[1].split('"')[0]
    form = {**selection, "confirmed": "1", "shown": shown, "format": "json", "columns": "view"}
    admin_client.post(f"{LIST}bulk/export/", form)
    operation = BulkOperation.objects.get()
    answer = admin_client.get(f"{LIST}operations/{operation.pk}/file")
    assert json.loads(answer.getvalue())[0] == {"name": "n3", "graph": "g3"}
