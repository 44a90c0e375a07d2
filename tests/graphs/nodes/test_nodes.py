"""The built-in nodes, with real files and a real HTTP server."""

import csv
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.core import mail
from django.core.files.storage import default_storage
from django.test import Client

from graphs.auth.callers import SYSTEM
from graphs.definition import errors
from graphs.nodes import http_client
from graphs.nodes.base import NodeFailed, registry
from graphs.services import dataset_files, datasets, tabular
from runs.engine import answer
from runs.engine.start import start_run
from runs.models import ToolResult

pytestmark = pytest.mark.django_db
FLIGHTS = (
    "id,carrier,delay,note\n1,AA,10,=SUM(A1)\n2,AA,,fine\n3,UA,-5,fine\n4,UA,95.5,late\n5,B6,70,\n"
)
CARRIERS = '{"code": "AA", "name": "American"}\n{"code": "UA", "name": "United"}\n'


@pytest.fixture
def dataset(namespace, tmp_path):
    (tmp_path / "flights.csv").write_text(FLIGHTS)
    (tmp_path / "carriers.jsonl").write_text(CARRIERS)
    with dataset_files.sources_at(tmp_path) as sources:
        return datasets.load(namespace, "air", sources)


@pytest.fixture
def run_with_dataset(publish, drain, dataset):
    """Run a graph with the dataset to its end; the arguments are those of `publish`."""

    def start_and_drain(drawing, **options):
        run = start_run(publish(drawing, **options), dataset=dataset)
        drain()
        run.refresh_from_db()
        return run

    return start_and_drain


def table(run, identifier):
    """The rows of the table that a node made."""
    made = run.states.get(identifier=identifier, status="SUCCESS").outputs["table"]
    with default_storage.open(made["file"]) as file:
        return list(tabular.read_rows(file, made["file"], made["format"], made["columns"]))


READ = {"kinds": {"r": "dataset.read"}, "inputs": {"r": {"table": "flights"}}}


def reading_into(kind, **inputs):
    """The kinds and inputs of r > x, where x is a node of this kind that takes the table of r."""
    return {
        "kinds": {**READ["kinds"], "x": kind},
        "inputs": {**READ["inputs"], "x": {"table": "${{ r.outputs.table }}", **inputs}},
    }


def test_the_columns_of_a_dataset_have_types(dataset):
    types = {
        column["name"]: column["type"] for column in dataset.tables.get(name="flights").columns
    }
    assert types == {"id": "integer", "carrier": "text", "delay": "number", "note": "text"}


def test_filter_keeps_rows_with_their_types(run_with_dataset):
    run = run_with_dataset(
        "r>x", **reading_into("rows.filter", where="row.delay != null && row.delay > 0.0")
    )
    assert [(row["id"], row["delay"]) for row in table(run, "x")] == [
        (1, 10.0),
        (4, 95.5),
        (5, 70.0),
    ]


def test_filter_names_the_row_at_which_its_condition_fails(run_with_dataset):
    run = run_with_dataset("r>x", **reading_into("rows.filter", where="row.delay > 0.0"))
    assert run.status == "partial"
    assert "row 2" in run.error_message


@pytest.mark.parametrize("where", ["1 + 1", "__import__('os')", "row.nope == 1"])
def test_filter_fails_if_its_expression_is_no_condition(run_with_dataset, where):
    run = run_with_dataset("r>x", **reading_into("rows.filter", where=where))
    assert (run.status, run.errored_count) == ("partial", 1)
    assert run.error_message.startswith("x: ")


@pytest.mark.parametrize("where", ["row.", "row.delay is big", "row.delay >"])
def test_a_malformed_expression_is_refused_when_it_is_published(run_with_dataset, where):
    with pytest.raises(errors.InvalidGraph, match=r"where: .* is not a valid expression"):
        run_with_dataset("r>x", **reading_into("rows.filter", where=where))


def test_an_expression_that_is_too_long_is_refused_when_it_is_published(run_with_dataset):
    with pytest.raises(errors.InvalidGraph, match="where"):
        run_with_dataset("r>x", **reading_into("rows.filter", where="x" * 3000))


def test_map_computes_columns(run_with_dataset):
    run = run_with_dataset(
        "r>x",
        **reading_into(
            "rows.map",
            columns={"late": "row.delay != null && row.delay > 60.0", "who": "row.carrier + '!'"},
        ),
    )
    assert table(run, "x")[3] == {"late": True, "who": "UA!"}


def test_aggregate_ignores_nulls_and_orders(run_with_dataset):
    measures = {
        "n": {"function": "count", "column": ""},
        "flown": {"function": "count", "column": "delay"},
        "mean": {"function": "mean", "column": "delay"},
    }
    run = run_with_dataset(
        "r>x",
        **reading_into(
            "rows.aggregate", by=["carrier"], measures=measures, order_by="-mean", limit=2
        ),
    )
    assert table(run, "x") == [
        {"carrier": "B6", "n": 1, "flown": 1, "mean": 70.0},
        {"carrier": "UA", "n": 2, "flown": 2, "mean": 45.25},
    ]


@pytest.mark.parametrize(("how", "rows"), [("inner", 4), ("left", 5)])
def test_join(run_with_dataset, how, rows):
    kinds = {"r": "dataset.read", "c": "dataset.read", "x": "rows.join"}
    inputs = {
        "r": {"table": "flights"},
        "c": {"table": "carriers"},
        "x": {
            "left": "${{ r.outputs.table }}",
            "right": "${{ c.outputs.table }}",
            "on": {"carrier": "code"},
            "how": how,
        },
    }
    run = run_with_dataset("r>x c>x", kinds=kinds, inputs=inputs)
    joined = table(run, "x")
    assert (len(joined), joined[0]["name"]) == (rows, "American")
    assert how == "inner" or joined[-1]["name"] is None


def test_export_escapes_formulas_and_zip_packs_the_files_that_were_made(run_with_dataset):
    kinds = {"r": "dataset.read", "e": "table.export", "j": "table.export", "z": "zip"}
    inputs = {
        "r": {"table": "flights"},
        "e": {"table": "${{ r.outputs.table }}", "name": "out"},
        "j": {"table": "${{ r.outputs.table }}", "name": "out", "format": "jsonl"},
        "z": {"files": ["${{ e.outputs.file }}", "${{ j.outputs.file }}"], "name": "all.zip"},
    }
    run = run_with_dataset(
        "r>e>z r>j>z", kinds=kinds, inputs=inputs, when={"r>j": "outputs.rows > 100"}
    )
    assert (run.status, run.emitted) == ("completed", 5)
    with (
        default_storage.open(run.artifacts.get(name="all.zip").file) as file,
        zipfile.ZipFile(file) as archive,
    ):
        assert archive.namelist() == ["out.csv"]
        rows = list(csv.DictReader(io.StringIO(archive.read("out.csv").decode())))
    assert rows[0] == {"id": "1", "carrier": "AA", "delay": "10", "note": "'=SUM(A1)"}


@pytest.mark.parametrize(
    "file", ["datasets/999/x.csv", "../secret.key", "runs/0/999999/x", "/etc/passwd"]
)
def test_a_file_outside_the_run_and_its_dataset_cannot_be_read(run_with_dataset, file):
    foreign = {"file": file, "format": "csv", "columns": [], "rows": 1}
    run = run_with_dataset(
        "x", kinds={"x": "table.export"}, inputs={"x": {"table": foreign, "name": "o"}}
    )
    assert "is no file of this run or its dataset" in run.error_message


def test_reading_an_unknown_table_names_the_tables_of_the_dataset(run_with_dataset):
    run = run_with_dataset("r", kinds={"r": "dataset.read"}, inputs={"r": {"table": "nope"}})
    assert run.error_message == "r: the dataset has no table 'nope'; it has carriers, flights"


def test_reading_without_a_dataset_fails(run_graph):
    assert "no dataset" in run_graph("r", **READ).error_message


def test_a_mail_is_sent_without_extra_headers_and_recorded_as_sent(run_with_dataset):
    inputs = {"m": {"to": ["a@example.org"], "subject": "Hi\nBcc: x", "body": "text"}}
    assert run_with_dataset("m", kinds={"m": "mail.send"}, inputs=inputs).status == "completed"
    assert [message.subject for message in mail.outbox] == ["Hi Bcc: x"]
    assert ToolResult.objects.count() == 1


def test_a_refused_approval_fails_the_run(publish, drain):
    run = start_run(publish("a", kinds={"a": "approval"}, inputs={"a": {"question": "Go?"}}))
    drain()
    answer.answer_state(run, run.states.get().pk, {"approved": False, "comment": "no"}, SYSTEM)
    drain()
    run.refresh_from_db()
    assert (run.status, run.error_message) == ("failed", "a: refused by system: no")


PRIVATE = [
    "127.0.0.1", "127.1", "0x7f000001", "2130706433", "localhost", "0.0.0.0",
    "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
    "::1", "::", "::ffff:127.0.0.1", "fe80::1", "fc00::1", "2002:7f00:1::", "fec0::1",
    "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "::127.0.0.1", "::ffff:0:127.0.0.1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_blocked(host):
    with pytest.raises(NodeFailed):
        http_client.public_addresses(host, 80)


TYPES = {
    "/json": "application/json",
    "/broken": "application/json",
    "/lines": "application/x-ndjson",
}


@pytest.fixture
def server(conf):
    """A local HTTP server; gives its address and the headers of the requests that it got."""
    conf.ALLOW_PRIVATE_ADDRESSES = True
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(dict(self.headers.items()))
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/json")
                self.end_headers()
                return
            body = {
                "/json": b'{"answer": 42}',
                "/broken": b"{",
                "/big": b"x" * (2**20 + 1),
                "/lines": b"{}\n{}\n",
            }.get(self.path, b"plain")
            self.send_response(500 if self.path == "/fail" else 200)
            self.send_header(
                "Content-Type",
                TYPES.get(self.path, "text/plain"),
            )
            self.send_header("X-Part", "a")
            self.send_header("X-Part", "b")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", requests
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/json", {"answer": 42}),
        ("/moved", {"answer": 42}),
        ("/text", "plain"),
        ("/lines", "{}\n{}\n"),
    ],
)
def test_http_request_gives_the_body_and_sends_an_idempotency_key(run_graph, server, path, body):
    address, requests = server
    run = run_graph("h", kinds={"h": "http.request"}, inputs={"h": {"url": address + path}})
    assert run.states.get().outputs["body"] == body
    assert requests[-1]["Idempotency-Key"] == f"alpha:{run.run_id}:h"


def test_headers_are_sent_once_and_all_lines_of_a_response_are_kept(run_graph, server):
    address, requests = server
    given = {"idempotency-key": "mine", "user-agent": "us", "content-type": "text/x"}
    inputs = {"h": {"url": f"{address}/text", "headers": given}}
    run = run_graph("h", kinds={"h": "http.request"}, inputs=inputs)
    assert run.states.get().outputs["headers"]["x-part"] == "a, b"
    sent = requests[-1]
    assert {name.lower(): value for name, value in sent.items()}.items() >= given.items()
    assert len({name.lower() for name in sent}) == len(sent)


@pytest.mark.parametrize(
    ("path", "reason"), [("/fail", "answered 500"), ("/broken", "isn't"), ("/big", "more than")]
)
def test_the_error_of_http_request_names_the_reason(run_graph, server, path, reason):
    address, _ = server
    run = run_graph("h", kinds={"h": "http.request"}, inputs={"h": {"url": address + path}})
    assert reason in run.error_message


def test_a_redirect_to_a_private_address_is_blocked(run_graph, server, conf, monkeypatch):
    """Only the first request may reach the private address of the test server."""
    checked_hosts = []
    check = http_client.public_addresses

    def allow_first(host, port):
        checked_hosts.append(host)
        conf.ALLOW_PRIVATE_ADDRESSES = len(checked_hosts) == 1
        return check(host, port)

    monkeypatch.setattr(http_client, "public_addresses", allow_first)
    url = f"{server[0]}/moved"
    run = run_graph("h", kinds={"h": "http.request"}, inputs={"h": {"url": url}})
    assert "private address" in run.error_message


def test_every_built_in_node_is_described_and_takes_only_the_inputs_that_it_declares():
    for node in registry.values():
        assert node.name.startswith("test.") or node.description
        assert node.inputs_schema["additionalProperties"] is False


def test_files_of_one_name_are_all_in_the_zip_file_under_safe_names(run_with_dataset):
    names = ["report", "Report", "../../report", "a\nb", "CON"]
    kinds = {"r": "dataset.read", "z": "zip"}
    inputs = {"r": {"table": "carriers"}, "z": {"files": []}}
    for at, name in enumerate(names):
        kinds[f"e{at}"] = "table.export"
        inputs[f"e{at}"] = {"table": "${{ r.outputs.table }}", "name": name}
        inputs["z"]["files"].append(f"${{{{ e{at}.outputs.file }}}}")
    run = run_with_dataset("r>e0>e1>e2>e3>e4>z", kinds=kinds, inputs=inputs)
    assert run.status == "completed", run.error_message
    with (
        default_storage.open(run.artifacts.get(name="export.zip").file) as file,
        zipfile.ZipFile(file) as archive,
    ):
        assert archive.namelist() == [
            "report.csv", "Report (2).csv", "_.._.._report.csv", "a_b.csv", "_CON.csv",
        ]  # fmt: skip
        assert len({archive.read(name) for name in archive.namelist()}) == 1


@pytest.mark.parametrize("name", ["..", "a\nb.txt", "x" * 300, "é" * 200, "con"])
def test_a_file_of_any_name_is_stored_and_downloaded(run_with_dataset, make_key, name):
    inputs = {
        "r": {"table": "carriers"},
        "z": {"files": [], "name": name},
    }
    run = run_with_dataset("r>z", kinds={"r": "dataset.read", "z": "zip"}, inputs=inputs)
    assert run.status == "completed", run.error_message
    client = Client(headers={"X-API-Key": make_key("run")})
    answer = client.get(f"/runs/{run.run_id}/artifacts/{run.artifacts.get(kind='file').pk}")
    assert answer.status_code == 200
    assert answer["Content-Disposition"].startswith("attachment; filename")
    answer.close()


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("rows.aggregate", {"rows": "x", "values": [], "limit": True}),
        ("rows.aggregate", {"rows": "x", "values": [], "limit": "1_0"}),
        ("rows.aggregate", {"rows": "x", "values": [], "limit": " 2 "}),
        ("delay", {"seconds": True}),
        ("delay", {"seconds": "1"}),
        ("table.export", {"rows": "x", "name": "n", "guard_formulas": "no"}),
        ("table.export", {"rows": "x", "name": "n", "guard_formulas": 0}),
    ],
)
def test_a_value_of_another_type_is_refused_when_it_comes_from_a_placeholder(name, inputs):
    [wrong] = [key for key in inputs if key in ("limit", "seconds", "guard_formulas")]
    with pytest.raises(NodeFailed, match=wrong):
        registry[name].bound(inputs)


def test_a_value_that_the_schema_of_a_node_accepts_is_converted():
    assert registry["delay"].bound({"seconds": 2})["seconds"] == 2
    assert registry["delay"].bound({"seconds": 2.0})["seconds"] == 2
