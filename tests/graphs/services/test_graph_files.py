"""Graphs that are versioned as files: `manage.py publish` and `manage.py export_graphs`."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from graphs.models import Graph, GraphVersion, Namespace
from runs.models import AuditEntry
from statemanager import api

pytestmark = pytest.mark.django_db
ORDERS = {
    "name": "orders",
    "nodes": [
        {"id": "read", "kind": "noop"},
        {"id": "say", "kind": "log", "data": {"inputs": {"message": "Grüße"}}},
    ],
    "edges": [{"from": "read", "to": "say"}],
}


def publish(*paths, **options):
    out = io.StringIO()
    call_command("publish", *map(str, paths), stdout=out, **options)
    return out.getvalue().splitlines()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "orders.json").write_text(json.dumps(ORDERS))
    (tmp_path / "bills.json").write_text(
        json.dumps({"nodes": [{"id": "a", "kind": "noop"}], "edges": []})
    )
    return tmp_path


def test_a_folder_is_published_and_again_without_new_versions(folder):
    assert publish(folder) == ["bills: version 1", "orders: version 1"]
    assert publish(folder) == ["bills: unchanged (1)", "orders: unchanged (1)"]
    assert GraphVersion.objects.count() == 2
    assert {entry.via for entry in AuditEntry.objects.filter(action="publish")} == {"command"}
    (folder / "bills.json").write_text(
        json.dumps({"nodes": [{"id": "b", "kind": "noop"}], "edges": []})
    )
    assert publish(folder) == ["bills: version 2", "orders: unchanged (1)"]


def test_a_wrong_file_publishes_nothing(folder):
    wrong = {"name": "zebra", "nodes": [{"id": "a", "kind": "no.such.node"}], "edges": []}
    (folder / "zebra.json").write_text(json.dumps(wrong))
    with pytest.raises(CommandError, match=r"Nothing was published. zebra: .*no.such.node"):
        publish(folder)
    assert not Graph.objects.exists()
    with pytest.raises(CommandError, match="zebra: "):
        publish(folder, check=True)


@pytest.mark.parametrize("content", ["{", "[1]", '{"name": 1, "nodes": []}', "\xff"])
def test_files_that_are_no_graphs_are_named(tmp_path, content):
    path = tmp_path / "wrong.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CommandError, match=r"wrong\.json"):
        publish(path)
    with pytest.raises(CommandError, match=r"missing\.json can't be read"):
        publish(tmp_path / "missing.json")


def test_a_check_says_what_would_change_and_stores_nothing(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        publish(folder, check=True)
    assert ended.value.code == 1
    assert not Graph.objects.exists()
    publish(folder)
    assert publish(folder, check=True) == []


def test_what_was_exported_is_published_unchanged_and_what_was_drawn_is_exported(folder, tmp_path):
    publish(folder)
    target = tmp_path / "exported"
    out = io.StringIO()
    call_command("export_graphs", str(target), stdout=out)
    assert [line.rpartition("/")[2] for line in out.getvalue().split()] == [
        "bills.json",
        "orders.json",
    ]
    assert "Grüße" in (target / "orders.json").read_text(encoding="utf-8")
    assert publish(target) == ["bills: unchanged (1)", "orders: unchanged (1)"]
    assert publish(target, namespace="other") == ["bills: version 1", "orders: version 1"]

    again = io.StringIO()
    call_command("export_graphs", str(target), stdout=again)
    assert again.getvalue() == "", "a file that says the same is not written"
    api.publish("bills", {"nodes": [{"id": "c", "kind": "noop"}], "edges": []})
    call_command("export_graphs", str(target), stdout=again)
    assert again.getvalue().strip().endswith("bills.json")


def test_a_namespace_without_graphs_has_nothing_to_export(tmp_path):
    Namespace.objects.create(name="empty")
    with pytest.raises(CommandError, match="no published graph in the namespace 'empty'"):
        call_command("export_graphs", str(tmp_path), namespace="empty")


def test_code_publishes_and_gets_the_version():
    definition = {"nodes": ORDERS["nodes"], "edges": ORDERS["edges"]}
    assert api.publish("orders", definition) == 1
    assert api.publish("orders", definition) == 1
    assert api.publish("orders", {"nodes": ORDERS["nodes"], "edges": []}) == 2
    with pytest.raises(api.InvalidGraph) as refused:
        api.publish("orders", {"nodes": [{"id": "a", "kind": "no.such.node"}], "edges": []})
    assert refused.value.extra["errors"]
