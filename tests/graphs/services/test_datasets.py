"""Loading datasets: errors name their file and line, and all files are stored or none."""

import csv
import io
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.files.storage import InMemoryStorage, default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from django.test import Client

from graphs.definition import errors
from graphs.models import Dataset
from graphs.services import dataset_files, datasets
from graphs.services.dataset_files import Reading, Source

pytestmark = pytest.mark.django_db(transaction=True)


def load(namespace, encoding="utf-8", **files):
    """Load files into the dataset "d"; x_csv=b"…" is the file x.csv."""
    sources = [Source(name.replace("_", "."), io.BytesIO(data)) for name, data in files.items()]
    return datasets.load(namespace, "d", sources, Reading(encoding))


def zipped(**files):
    """A zip archive of the files."""
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
    "many columns": (b",".join(b"c%d" % at for at in range(20_000)), "20,000 columns; 5,000 are"),
    "same column often": (b",".join([b"c"] * 5000), "the header has the column 'c' twice"),
    "long line": (b"a\n" + b"x" * (10 * 2**20 + 1), "line 2: a row of more than 10,485,760 bytes"),
    "long row": (b'a\n"' + b"x\n" * (6 * 2**20) + b'"', "a row of more than 10,485,760 bytes"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_an_error_in_csv_names_its_line_and_nothing_is_stored(namespace, data, message):
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
def test_an_error_in_json_lines_names_its_line(namespace, data):
    with pytest.raises(errors.Malformed, match=r"x\.jsonl, line"):
        load(namespace, x_jsonl=data)


def test_every_broken_file_is_reported(namespace):
    with pytest.raises(errors.Malformed) as refused:
        load(namespace, a_csv=b"a,b\n1\n", b_csv=b"a\n1,2\n", c_txt=b"?", d_zip=b"no zip")
    assert len(refused.value.extra["errors"]) == 4


def test_another_encoding_is_stored_as_utf_8(namespace):
    dataset = load(namespace, "latin-1", x_csv="name\ncafé\n".encode("latin-1"))
    with default_storage.open(dataset.tables.get().file) as file:
        assert file.read().decode() == "name\ncafé\n"


def test_a_byte_order_mark_is_not_part_of_the_first_name(namespace):
    dataset = load(namespace, x_csv="\ufeffname\nx\n".encode())
    assert dataset.tables.get().columns == [{"name": "name", "type": "text"}]


def test_an_unknown_encoding_is_refused(namespace):
    with pytest.raises(errors.Malformed, match="unknown encoding"):
        load(namespace, "klingon", x_csv=b"a\n1\n")


def test_a_column_has_the_narrowest_type_that_fits_all_its_values(namespace):
    data = b"i,n,t,z,big,e\n1,1.5,x,007,12345678901234567890,\n-2,2,3,1,1,\n,-3.25,4,2,2,\n"
    columns = load(namespace, x_csv=data).tables.get().columns
    assert {column["name"]: column["type"] for column in columns} == {
        "i": "integer",
        "n": "number",
        "t": "text",
        "z": "text",
        "big": "text",
        "e": "integer",
    }


def test_the_tables_of_a_zip_archive_replace_the_old_ones(namespace):
    old = load(namespace, x_csv=b"a\n1\n")
    old_file = old.tables.get().file
    archive = zipped(p_csv="a\n1\n2\n", q_jsonl='{"k": 1}\n', readme_txt="?")
    new = load(namespace, all_zip=archive)
    assert old.pk == new.pk
    assert {table.name: table.rows for table in new.tables.all()} == {"p": 2, "q": 1}
    assert not default_storage.exists(old_file)


def test_two_files_for_the_same_table_are_refused(namespace):
    with pytest.raises(errors.Malformed, match="two files make a table 'p'"):
        load(namespace, p_csv=b"a\n", p_jsonl=b"{}\n")


def test_deleting_a_dataset_deletes_its_files(namespace):
    dataset = load(namespace, p_csv=b"a\n1\n", q_jsonl=b'{"k": 1}\n')
    files = [table.file for table in dataset.tables.all()]
    assert all(map(default_storage.exists, files))
    datasets.delete(dataset)
    assert not any(map(default_storage.exists, files))


@pytest.fixture
def client(make_key, namespace):
    return Client(headers={"X-API-Key": make_key("run")})


def upload(client, name, **contents):
    """The API's answer to an upload of files; x_csv=b"…" is the file x.csv."""
    files = [SimpleUploadedFile(key.replace("_", "."), data) for key, data in contents.items()]
    return client.post("/datasets", {"name": name, "files": files})


def test_the_api_loads_shows_and_deletes_a_dataset(client):
    answer = upload(client, "up", one_csv=b"a\n1\n", two_jsonl=b'{"b": 1}\n')
    assert answer.status_code == 201
    assert [table["name"] for table in answer.json()["tables"]] == ["one", "two"]
    path = f"/datasets/{answer.json()['id']}"
    assert client.get(path).json()["namespace"] == "alpha"
    assert client.delete(path).status_code == 204
    assert client.get("/datasets").json() == []


def test_the_api_reports_the_errors_of_an_upload(client):
    answer = upload(client, "bad", bad_csv=b"a,b\n1\n")
    assert answer.status_code == 422
    assert answer.json()["errors"] == ["bad.csv, line 2: 1 values for 2 columns"]
    assert client.get("/datasets").json() == []


def test_the_api_refuses_an_upload_without_files(client):
    assert client.post("/datasets", {"name": "none"}).status_code == 422


def test_a_zip_archive_that_grows_too_much_is_refused_before_it_is_read(namespace, monkeypatch):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.csv", b"a\n" + b"1\n" * 40_000_000)
    monkeypatch.setattr(dataset_files, "copy_decoded", None)  # nothing is read
    with pytest.raises(errors.Malformed, match="more than 200 times"):
        load(namespace, all_zip=buffer.getvalue())


def test_json_rows_with_ever_new_members_are_refused(namespace):
    lines = "\n".join(f'{{"k{at}": 1}}' for at in range(5_001))
    with pytest.raises(errors.Malformed, match="5,000 different members"):
        load(namespace, x_jsonl=lines.encode())


class BlockingStorage(InMemoryStorage):
    """Files that are stored once `go_on` is set; `began` tells that one is waiting."""

    began: threading.Event
    go_on: threading.Event

    def _save(self, name, content):
        self.began.set()
        assert self.go_on.wait(30)
        return super()._save(name, content)


@pytest.fixture
def blocking_storage(settings):
    BlockingStorage.began, BlockingStorage.go_on = threading.Event(), threading.Event()
    backend = f"{__name__}.BlockingStorage"
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": backend}}
    yield BlockingStorage
    BlockingStorage.go_on.set()


def test_others_write_while_the_storage_is_slow(namespace, blocking_storage):
    """An upload holds no lock while its files are stored: on SQLite it would be everybody's."""
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(in_a_thread, load, namespace, x_csv=b"a\n1\n")
        assert blocking_storage.began.wait(30)
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA busy_timeout = 1000")
            else:
                cursor.execute("SET lock_timeout = 1000")
        Dataset.objects.create(namespace=namespace, name="another")
        assert not loading.done()
        blocking_storage.go_on.set()
        assert [table.name for table in loading.result(30).tables.all()] == ["x"]
    connection.close()  # with the short timeout


def in_a_thread(call, *args, **options):
    try:
        return call(*args, **options)
    finally:
        connections.close_all()


def test_a_load_that_fails_leaves_neither_files_nor_rows(namespace, monkeypatch):
    def stored():
        folders, files = default_storage.listdir("datasets")
        return {*folders, *files}

    load(namespace, x_csv=b"a\n1\n")
    before = stored()
    monkeypatch.setattr(datasets, "_create_row", broken)
    with pytest.raises(RuntimeError):
        load(namespace, x_csv=b"a\n1\n", y_csv=b"b\n1\n")
    assert stored() == before
    [dataset] = Dataset.objects.all()
    [table] = dataset.tables.all()
    assert default_storage.exists(table.file)


def broken(*args):
    raise RuntimeError("the row can't be stored")


def test_replacing_a_dataset_deletes_its_old_files_and_their_folder(namespace):
    [old] = load(namespace, x_csv=b"a\n1\n").tables.all()
    [new] = load(namespace, x_csv=b"a\n2\n").tables.all()
    assert not default_storage.exists(old.file.rpartition("/")[0])
    with default_storage.open(new.file) as file:
        assert file.read() == b"a\n2\n"


def columns_of(dataset):
    return [column["name"] for column in dataset.tables.get().columns]


def rows_of(dataset):
    """The cells of the only table, as it is stored."""
    with default_storage.open(dataset.tables.get().file) as file:
        return list(csv.reader(io.StringIO(file.read().decode(), newline="")))


def test_a_header_without_rows_is_read_like_any_other(namespace):
    assert columns_of(load(namespace, x_csv=b'"last, first",age\n')) == ["last, first", "age"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("file", ["x_csv", "x_jsonl"])
def test_a_byte_order_mark_says_the_encoding(namespace, encoding, file):
    text = "é\n1\n" if file == "x_csv" else '{"é": 1}\n'
    assert columns_of(load(namespace, **{file: text.encode(encoding)})) == ["é"]


def test_a_refusal_says_which_encoding_was_assumed(namespace):
    with pytest.raises(errors.Malformed, match=r"not UTF-8 .* which was assumed; .*windows-1252"):
        load(namespace, x_csv="name\n“é”\n".encode("windows-1252"))
    dataset = load(namespace, "windows-1252", x_csv="name\n“é”\n".encode("windows-1252"))
    assert rows_of(dataset) == [["name"], ["“é”"]]


def test_a_file_that_ends_within_a_character_is_refused(namespace):
    with pytest.raises(errors.Malformed, match="not utf-16"):
        load(namespace, x_csv="a\nb\n".encode("utf-16") + b"\x00")


def test_what_a_mac_adds_to_a_zip_archive_is_left_out(namespace):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("d/заказ.csv", "a\n1\n")
        archive.writestr("__MACOSX/d/._заказ.csv", b"\x00\x05\x16\x07")
        archive.writestr("d/._x.csv", b"\x00")
        archive.writestr("d/.DS_Store", b"\x00")
    packed = buffer.getvalue().replace(b"\x00\x08\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\x00")
    assert load(namespace, all_zip=packed).tables.get().name == "заказ"


def test_a_folder_of_a_zip_archive_from_windows_is_no_part_of_the_name(namespace):
    assert load(namespace, all_zip=zipped(**{r"d\x_csv": "a\n1\n"})).tables.get().name == "x"


@pytest.mark.parametrize("name", ["..", "x" * 201, "a\x07"])
def test_names_of_tables_obey_the_rule_for_names(namespace, name):
    with pytest.raises(errors.Malformed, match="A table"):
        datasets.load(namespace, "d", [Source(f"{name}.csv", io.BytesIO(b"a\n"))])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(namespace, delimiter):
    rows = [["name", "price"], ["x", "1" if delimiter == "," else "1,5"], ["a\nb", "2"]]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    dataset = load(namespace, x_csv=buffer.getvalue().encode())
    assert rows_of(dataset) == rows


@pytest.mark.parametrize(
    ("data", "choices"),
    [
        (b"text\na;b\nc\n", ["comma", "semicolon"]),
        (b"text\nc\na\tb\n", ["comma", "tab"]),
        (b"a,b;c\n1,2;3\n", ["comma", "semicolon"]),
    ],
)
def test_a_delimiter_that_only_people_know_is_asked_for(namespace, data, choices):
    with pytest.raises(errors.Malformed) as refused:
        load(namespace, x_csv=data)
    assert refused.value.extra["choices"] == {"x.csv": choices}


def test_text_in_quotation_marks_is_not_asked_about(namespace):
    assert columns_of(load(namespace, x_csv=b'text\n"a;b"\n"c\td"\n')) == ["text"]


def test_the_api_takes_the_delimiter_that_it_asked_for(client):
    def post(**fields):
        file = SimpleUploadedFile("x.csv", b"text\na;b\n")
        return client.post("/datasets", {"name": "d", "files": [file], **fields})

    asked = post()
    assert asked.status_code == 422
    assert asked.json()["choices"] == {"x.csv": ["comma", "semicolon"]}
    answer = post(delimiter="comma")
    assert answer.status_code == 201
    assert [column["name"] for column in answer.json()["tables"][0]["columns"]] == ["text"]
    assert post(delimiter="#").status_code == 422


def test_the_api_shows_what_files_would_become(client):
    files = {"a_csv": b"x;y\n1;2\n", "b_csv": b"t\na;b\n", "c_jsonl": b'{"k": [1]}\n'}
    sent = [SimpleUploadedFile(key.replace("_", "."), data) for key, data in files.items()]
    answer = client.post("/datasets", {"name": "d", "files": sent, "preview": "true"})
    assert answer.status_code == 200
    first, second, third = answer.json()["tables"]
    assert (first["delimiter"], first["columns"], first["rows"]) == (
        "semicolon", ["x", "y"], [["1", "2"]],
    )  # fmt: skip
    assert second["choices"] == ["comma", "semicolon"]
    assert "say which delimiter" in second["problem"]
    assert (third["columns"], third["rows"]) == (["k"], [[[1]]])
    assert not Dataset.objects.exists()


def test_a_preview_reads_the_beginning_only(client):
    large = b"a,b\n" + b"1,2\n" * 200_000 + b"broken\n"
    file = SimpleUploadedFile("x.csv", large)
    answer = client.post("/datasets", {"name": "d", "files": [file], "preview": "true"})
    table = answer.json()["tables"][0]
    assert (len(table["rows"]), table["problem"]) == (10, "")
