"""Loading datasets: every broken file is reported with its line, and all is stored or nothing."""

import io
import zipfile

import pytest
from django.core.files.storage import default_storage
from django.test import Client

from graphs.definition import errors
from graphs.models import Dataset
from graphs.services import datasets
from graphs.services.datasets import Source

pytestmark = pytest.mark.django_db(transaction=True)


def load(namespace, encoding="utf-8", **files):
    sources = [Source(name.replace("_", "."), io.BytesIO(data)) for name, data in files.items()]
    return datasets.load(namespace, "d", sources, encoding)


def packed(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)
    return buffer.getvalue()


BROKEN = {
    "short row": (b"a,b\n1,2\n3\n", "x.csv, line 3: 1 values for 2 columns"),
    "no header": (b"", "x.csv, line 1: every column needs a name"),
    "unnamed column": (b"a,,c\n1,2,3\n", "x.csv, line 1: every column needs a name"),
    "column twice": (b"a,a\n1,2\n", "x.csv, line 1: the header has the column 'a' twice"),
    "open quote": (b'a,b\n1,"2\n', "x.csv, line 2: unexpected end of data"),
    "latin-1": ("a\né\n".encode("latin-1"), "x.csv, line 2: not UTF-8 (byte 0xe9)"),
    "NUL": (b"a\nx\x00y\n", "x.csv, line 2: a NUL character"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_csv_is_named_with_its_line(namespace, data, message):
    with pytest.raises(errors.Malformed) as refused:
        load(namespace, x_csv=data, good_csv=b"a\n1\n")
    assert message in refused.value.extra["errors"][0]
    assert not Dataset.objects.exists()


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1}\n{',
        b"[1]\n",
        b'{"a": NaN}\n',
        b'{"a": 1e999}\n',
        b'{"a": "\\ud800"}\n',
        b"[" * 200_000,
    ],
)
def test_broken_json_lines_are_named_with_their_line(namespace, data):
    with pytest.raises(errors.Malformed, match=r"x\.jsonl, line"):
        load(namespace, x_jsonl=data)


def test_every_broken_file_is_reported(namespace):
    with pytest.raises(errors.Malformed) as refused:
        load(namespace, a_csv=b"a,b\n1\n", b_csv=b"a\n1,2\n", c_txt=b"?", d_zip=b"no zip")
    assert len(refused.value.extra["errors"]) == 4


def test_other_encodings_and_byte_order_marks(namespace):
    latin = load(namespace, "latin-1", x_csv="name\ncafé\n".encode("latin-1"))
    with default_storage.open(latin.tables.get().file) as file:
        assert file.read().decode() == "name\ncafé\n"
    marked = load(namespace, x_csv="\ufeffname\nx\n".encode())
    assert marked.tables.get().columns == [{"name": "name", "type": "text"}]
    with pytest.raises(errors.Malformed, match="unknown encoding"):
        load(namespace, "klingon", x_csv=b"a\n1\n")


def test_types_are_the_narrowest_that_hold_every_value(namespace):
    data = b"i,n,t,z,big,e\n1,1.5,x,007,12345678901234567890,\n-2,2,3,1,1,\n,1e3,4,2,2,\n"
    types = {
        column["name"]: column["type"]
        for column in load(namespace, x_csv=data).tables.get().columns
    }
    assert types == {
        "i": "integer",
        "n": "number",
        "t": "text",
        "z": "text",
        "big": "text",
        "e": "integer",
    }


def test_zip_brings_its_tables_and_replaces_the_former_ones(namespace):
    first = load(namespace, x_csv=b"a\n1\n")
    file = first.tables.get().file
    second = load(
        namespace, all_zip=packed(p_csv="a\n1\n2\n", q_jsonl='{"k": 1}\n', readme_txt="?")
    )
    assert first.pk == second.pk
    assert {table.name: table.rows for table in second.tables.all()} == {"p": 2, "q": 1}
    assert not default_storage.exists(file)
    with pytest.raises(errors.Malformed, match="two files make a table 'p'"):
        load(namespace, p_csv=b"a\n", p_jsonl=b"{}\n")
    files = [table.file for table in second.tables.all()]
    datasets.delete(second)
    assert not any(map(default_storage.exists, files))


def test_upload_by_the_api(make_key, namespace):
    client = Client(headers={"X-API-Key": make_key("run")})
    files = [io.BytesIO(b"a\n1\n"), io.BytesIO(b'{"b": 1}\n')]
    files[0].name, files[1].name = "one.csv", "two.jsonl"
    made = client.post("/datasets", {"name": "up", "files": files})
    assert (made.status_code, [table["name"] for table in made.json()["tables"]]) == (
        201,
        ["one", "two"],
    )
    assert client.get(f"/datasets/{made.json()['id']}").json()["namespace"] == "alpha"
    bad = io.BytesIO(b"a,b\n1\n")
    bad.name = "bad.csv"
    refused = client.post("/datasets", {"name": "bad", "files": [bad]})
    assert (refused.status_code, refused.json()["errors"]) == (
        422,
        ["bad.csv, line 2: 1 values for 2 columns"],
    )
    assert client.post("/datasets", {"name": "none"}).status_code == 422
    assert client.delete(f"/datasets/{made.json()['id']}").status_code == 204
    assert client.get("/datasets").json() == []
