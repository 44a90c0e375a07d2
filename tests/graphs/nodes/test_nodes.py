"""The shipped nodes, on real files."""

import csv
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.core import mail
from django.core.files.storage import default_storage

from graphs.definition import errors
from graphs.nodes.base import NodeFailed, registry
from graphs.nodes.network import public_address
from graphs.services import datasets
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
    with datasets.sources_at(tmp_path) as sources:
        return datasets.load(namespace, "air", sources)


@pytest.fixture
def run_with(publish, drain, dataset):
    """Run a drawing over the dataset; `kinds` and `inputs` as for publish."""

    def run(drawing, **members):
        started = start_run(publish(drawing, **members), dataset=dataset)
        drain()
        started.refresh_from_db()
        return started

    return run


def table(run, identifier):
    state = run.states.get(identifier=identifier, status="SUCCESS")
    with default_storage.open(state.outputs["table"]["file"]) as file:
        return [json.loads(line) for line in file.read().decode().splitlines()]


READ = {"kinds": {"r": "dataset.read"}, "inputs": {"r": {"table": "flights"}}}


def chain(kind, **inputs):
    return {
        "kinds": {**READ["kinds"], "x": kind},
        "inputs": {**READ["inputs"], "x": {"table": "${{ r.outputs.table }}", **inputs}},
    }


def test_columns_have_types(dataset):
    types = {
        column["name"]: column["type"] for column in dataset.tables.get(name="flights").columns
    }
    assert types == {"id": "integer", "carrier": "text", "delay": "number", "note": "text"}


def test_filter_keeps_rows_with_their_types(run_with):
    run = run_with("r>x", **chain("rows.filter", where="row.delay != null && row.delay > 0.0"))
    assert [(row["id"], row["delay"]) for row in table(run, "x")] == [
        (1, 10.0),
        (4, 95.5),
        (5, 70.0),
    ]


def test_filter_names_the_row_that_its_expression_can_not_read(run_with):
    run = run_with("r>x", **chain("rows.filter", where="row.delay > 0.0"))
    assert run.status == "partial"
    assert "row 2" in run.error_message


@pytest.mark.parametrize("where", ["1 + 1", "__import__('os')", "row.nope == 1"])
def test_filter_refuses_what_is_no_condition(run_with, where):
    run = run_with("r>x", **chain("rows.filter", where=where))
    assert (run.status, run.errored_count) == ("partial", 1)
    assert run.error_message.startswith("x: ")


@pytest.mark.parametrize("where", ["row.", "row.delay is big", "row.delay >"])
def test_what_is_no_expression_is_refused_when_published(run_with, where):
    with pytest.raises(errors.InvalidGraph, match=r"where: .* is not a valid expression"):
        run_with("r>x", **chain("rows.filter", where=where))


def test_expression_that_is_too_long_is_refused_when_published(run_with):
    with pytest.raises(errors.InvalidGraph, match="where"):
        run_with("r>x", **chain("rows.filter", where="x" * 3000))


def test_map_computes_columns(run_with):
    run = run_with(
        "r>x",
        **chain(
            "rows.map",
            columns={"late": "row.delay != null && row.delay > 60.0", "who": "row.carrier + '!'"},
        ),
    )
    assert table(run, "x")[3] == {"late": True, "who": "UA!"}


def test_aggregate_ignores_nulls_and_orders(run_with):
    measures = {
        "n": {"function": "count", "column": ""},
        "flown": {"function": "count", "column": "delay"},
        "mean": {"function": "mean", "column": "delay"},
    }
    run = run_with(
        "r>x",
        **chain("rows.aggregate", by=["carrier"], measures=measures, order_by="-mean", limit=2),
    )
    assert table(run, "x") == [
        {"carrier": "B6", "n": 1, "flown": 1, "mean": 70.0},
        {"carrier": "UA", "n": 2, "flown": 2, "mean": 45.25},
    ]


@pytest.mark.parametrize(("how", "rows"), [("inner", 4), ("left", 5)])
def test_join(run_with, how, rows):
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
    run = run_with("r>x c>x", kinds=kinds, inputs=inputs)
    found = table(run, "x")
    assert (len(found), found[0]["name"]) == (rows, "American")
    assert how == "inner" or found[-1]["name"] is None


def test_export_guards_formulas_and_zip_packs_what_is_there(run_with):
    kinds = {"r": "dataset.read", "e": "table.export", "j": "table.export", "z": "zip"}
    inputs = {
        "r": {"table": "flights"},
        "e": {"table": "${{ r.outputs.table }}", "name": "out"},
        "j": {"table": "${{ r.outputs.table }}", "name": "out", "format": "jsonl"},
        "z": {"files": ["${{ e.outputs.file }}", "${{ j.outputs.file }}"], "name": "all.zip"},
    }
    run = run_with("r>e>z r>j>z", kinds=kinds, inputs=inputs, when={"r>j": "outputs.rows > 100"})
    assert (run.status, run.emitted) == ("completed", 5)
    with (
        default_storage.open(run.artifacts.get(name="all.zip").file) as file,
        zipfile.ZipFile(file) as archive,
    ):
        assert archive.namelist() == ["out.csv"]
        rows = list(csv.DictReader(io.StringIO(archive.read("out.csv").decode())))
    assert rows[0] == {"id": "1", "carrier": "AA", "delay": "10.0", "note": "'=SUM(A1)"}


def test_files_of_other_runs_and_places_can_not_be_read(run_with):
    for file in ("datasets/999/x.csv", "../secret.key", "runs/0/999999/x", "/etc/passwd"):
        foreign = {"file": file, "format": "csv", "columns": [], "rows": 1}
        run = run_with(
            "x",
            name=f"n{hash(file)}",
            kinds={"x": "table.export"},
            inputs={"x": {"table": foreign, "name": "o"}},
        )
        assert "is no file of this run or its dataset" in run.error_message


def test_unknown_tables_and_runs_without_dataset_are_said(run_with, publish, drain):
    run = run_with("r", kinds={"r": "dataset.read"}, inputs={"r": {"table": "nope"}})
    assert run.error_message == "r: the dataset has no table 'nope'; it has carriers, flights"
    bare = start_run(publish("r", **READ))
    drain()
    bare.refresh_from_db()
    assert "no dataset" in bare.error_message


def test_mail_is_sent_once_per_state(run_with):
    inputs = {"m": {"to": ["a@example.org"], "subject": "Hi\nBcc: x", "body": "text"}}
    assert run_with("m", kinds={"m": "mail.send"}, inputs=inputs).status == "completed"
    assert [message.subject for message in mail.outbox] == ["Hi Bcc: x"]
    assert ToolResult.objects.count() == 1


def test_approval_refused_fails(publish, drain):
    from graphs.auth.callers import SYSTEM
    from runs.engine import answer

    run = start_run(publish("a", kinds={"a": "approval"}, inputs={"a": {"question": "Go?"}}))
    drain()
    answer.answer_state(run, run.states.get().pk, {"approved": False, "comment": "no"}, SYSTEM)
    drain()
    run.refresh_from_db()
    assert (run.status, run.error_message) == ("failed", "a: refused by system: no")


PRIVATE = [
    "127.0.0.1", "127.1", "0x7f000001", "2130706433", "localhost", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "::1", "::ffff:127.0.0.1", "fe80::1", "fc00::1", "224.0.0.1", "::", "2002:7f00:1::",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_blocked(host):
    with pytest.raises(NodeFailed):
        public_address(host, 80)


@pytest.fixture
def server(settings):
    settings.ALLOW_PRIVATE_ADDRESSES = True
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(dict(self.headers))
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/json")
                self.end_headers()
                return
            body = {"/json": b'{"answer": 42}', "/broken": b"{", "/big": b"x" * (2**20 + 1)}.get(
                self.path, b"plain"
            )
            self.send_response(500 if self.path == "/fail" else 200)
            self.send_header(
                "Content-Type",
                "application/json" if self.path in ("/json", "/broken") else "text/plain",
            )
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", seen
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("path", "body"), [("/json", {"answer": 42}), ("/moved", {"answer": 42}), ("/text", "plain")]
)
def test_http_request_gives_the_answer(run_graph, server, path, body):
    run = run_graph("h", kinds={"h": "http.request"}, inputs={"h": {"url": server[0] + path}})
    assert run.states.get().outputs["body"] == body
    assert server[1][-1]["Idempotency-Key"] == f"{run.run_id}:h"


@pytest.mark.parametrize(
    ("path", "reason"), [("/fail", "answered 500"), ("/broken", "isn't"), ("/big", "more than")]
)
def test_http_request_says_why_it_failed(run_graph, server, path, reason):
    assert (
        reason
        in run_graph(
            "h", kinds={"h": "http.request"}, inputs={"h": {"url": server[0] + path}}
        ).error_message
    )


def test_redirect_to_a_private_address_is_blocked(run_graph, server, settings, monkeypatch):
    import graphs.nodes.network as network

    judged = []
    judge = network.public_address

    def once(host, port):
        judged.append(host)
        settings.ALLOW_PRIVATE_ADDRESSES = len(judged) == 1
        return judge(host, port)

    monkeypatch.setattr(network, "public_address", once)
    run = run_graph("h", kinds={"h": "http.request"}, inputs={"h": {"url": f"{server[0]}/moved"}})
    assert "private address" in run.error_message


def test_every_shipped_node_says_what_it_does_and_takes():
    for node in registry.values():
        assert node.name.startswith("test.") or node.description
        assert node.inputs_schema["additionalProperties"] is False
