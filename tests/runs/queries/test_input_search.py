"""Runs are found by what they were started with, the same ones on both databases."""

import re
from datetime import timedelta
from itertools import product
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.utils import timezone

from graphs.auth.callers import SYSTEM
from graphs.definition import value_paths
from graphs.models import IndexedInput, Namespace, NamespaceMembership
from runs.actions import bulk, bulk_runner
from runs.engine import input_index
from runs.engine.new_run import RunOptions
from runs.engine.start import start_run
from runs.models import Run, RunInput
from runs.queries import lists
from runs.queries.filters import InvalidFilters, RunFilters
from runs.queries.orderings import ORDERINGS

pytestmark = pytest.mark.django_db
BULK = "/admin/run-manager/bulk-operations"

VALUES = {
    "a": 42,
    "b": "42",
    "c": 42.0,
    "d": True,
    "e": "true",
    "f": None,
    "g": "null",
    "h": "Ärger",
    "i": "ärger",
    "j": "",
    "k": [42],
    "l": {"id": 42},
    "m": 9007199254740993,
    "n": 9007199254740992,
    "o": 1e23,
    "p": 0.1,
    "q": 'say "hi"',
    "r": -0.0,
    "s": "a b",
    "t": "x" * 5000,
    "u": "a=b",
    "v": False,
    "w": 1,
}
NONE = "z"  # has no such input
ALL = {*VALUES, NONE}


@pytest.fixture
def runs(publish):
    """Runs whose ids are the letters in VALUES, and one without the input."""
    paths = ["customer.id", 'customer["first name"]', "ключ", "items[1]"]
    graph = publish("a", settings={"indexed_inputs": paths})
    for letter, value in VALUES.items():
        start_run(graph, RunOptions(run_id=letter, inputs={"customer": {"id": value}}))
    inputs = {"customer": {"first name": "Ada"}, "ключ": "знач", "items": [1, "two"]}
    start_run(graph, RunOptions(run_id=NONE, inputs=inputs))
    return graph


def found(text, **filters):
    matching = RunFilters.of_mapping({"search": text, **filters}).apply(Run.objects.all(), SYSTEM)
    return "".join(sorted(matching.values_list("run_id", flat=True)))


SEARCHES = {
    "input:customer.id=42": "ac",
    "input:customer.id=42.0": "ac",
    "input:customer.id=4.2e1": "ac",
    'input:customer.id="42"': "b",
    "input:customer.id=true": "d",
    'input:customer.id="true"': "e",
    "input:customer.id=True": "",
    "input:customer.id=1": "w",
    "input:customer.id=0": "r",
    "input:customer.id=false": "v",
    "input:customer.id=null": "f",
    'input:customer.id="null"': "g",
    "input:customer.id=Ärger": "h",
    "input:customer.id=ärger": "i",
    "input:customer.id=": "j",
    'input:customer.id=""': "j",
    "input:customer.id=9007199254740993": "m",
    "input:customer.id=9007199254740992": "n",
    "input:customer.id=1e23": "o",
    "input:customer.id=100000000000000000000000": "o",
    "input:customer.id=0.1": "p",
    "input:customer.id=1e-1": "p",
    'input:customer.id="say \\"hi\\""': "q",
    'input:customer.id="a b"': "s",
    'input:"customer.id=a b"': "s",
    f"input:customer.id={'x' * 1900}": "",
    "input:customer.id=a=b": "u",
    "input:customer.id=1e999": "",
    'input:customer.id="\\u0000"': "",
    'input:customer.id="\\ud800"': "",
    "input:customer.id=*": "",
    "input:customer.id": "abcdefghijklmnopqrstuvw",
    'INPUT:customer["id"]': "abcdefghijklmnopqrstuvw",
    'input:customer["first name"]=Ada': "z",
    'input:["customer"]["first name"]': "z",
    "input:ключ=знач": "z",
    'input:["ключ"]="знач"': "z",
    "input:КЛЮЧ=знач input:ключ=знач": "refused",
    "input:items[1]=two": "z",
    "input:items[0]=1": "refused",
}


def answer(text):
    try:
        return found(text)
    except InvalidFilters as error:
        assert "indexed_inputs" in str(error)
        return "refused"


def test_a_path_that_no_database_stores_is_no_path(admin_client):
    """It is searched as text, and can't be declared."""
    text = 'a["\\ud800"]'
    assert admin_client.get("/runs", {"search": f"input:{text}=1"}).json()["runs"] == []
    with pytest.raises(ValueError, match="lone surrogates"):
        value_paths.parse(text)


def test_inputs_are_found_by_their_exact_value(runs):
    assert {text: answer(text) for text in SEARCHES} == SEARCHES


def test_a_negated_input_finds_all_other_runs(runs):
    tokens = [text for text, letters in SEARCHES.items() if letters != "refused"]
    others = {text: "".join(sorted(ALL - set(SEARCHES[text]))) for text in tokens}
    assert {text: found(f"-{text}") for text in tokens} == others


def test_values_are_not_stored_a_second_time(runs):
    columns = {field.get_internal_type() for field in RunInput._meta.get_fields()}
    assert columns == {"BigAutoField", "ForeignKey", "UUIDField"}


# --- who may search for inputs --------------------------------------------------------------------

BETA = "beta-run"


@pytest.fixture
def tenants(runs, publish):
    """Runs in two namespaces, of which both graphs declare the same input."""
    beta = Namespace.objects.create(name="beta")
    graph = publish("a", namespace=beta, settings={"indexed_inputs": ["customer.id", "beta.only"]})
    start_run(graph, RunOptions(run_id=BETA, inputs={"customer": {"id": 42}, "beta": {"only": 1}}))
    return beta


def staff(client, *codes, roles=()):
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    for namespace, role in roles:
        NamespaceMembership.objects.create(user=user, namespace=namespace, role=role)
    client.force_login(user)
    return client


def run_ids_in(answer):
    """The run ids of a CSV file, or of the runs to which a page links."""
    if answer.streaming:
        return {line.split(",")[0] for line in answer.getvalue().decode().splitlines()[1:]}
    pks = re.findall(r"run[/=](\d+)", answer.content.decode())
    return set(Run.objects.filter(pk__in=pks).values_list("run_id", flat=True))


TEXTS = ["input:customer.id=42", "-input:customer.id=42", "input:customer.id", "input:none=1"]
ROUTES = [
    "/runs?search=",
    "/admin/run-manager/runs?search=",
    "/admin/run-manager/runs?page_size=1&search=",
]
PAGES = ["/admin/run-manager/", "/admin/run-states/", "/admin/run-manager/export.csv"]


@pytest.mark.parametrize("text", TEXTS)
def test_those_who_may_not_see_payloads_are_refused_and_count_nothing(client, tenants, text):
    staff(client, "view_run", "export_run", "rerun_run")
    for route in ROUTES:
        answer = client.get(f"{route}{quote(text)}")
        content = answer.content.decode()
        assert (answer.status_code, "see inputs" in content, BETA in content) == (422, True, False)
    bulk = {"action": "rerun", "filter": {"search": text}, "dry_run": True}
    answer = client.post(BULK, bulk, content_type="application/json")
    assert (answer.status_code, "see inputs" in answer.content.decode()) == (422, True)
    for page in PAGES:
        every = client.get(page)
        shown = client.get(f"{page}?search={quote(text)}", follow=True)
        runs = run_ids_in(every)
        assert BETA in runs
        assert "see inputs" in shown.content.decode()
        if every.streaming:
            assert shown.redirect_chain, "nothing is exported"
        else:
            assert run_ids_in(shown) == runs, "the page ignores the filter"


@pytest.mark.parametrize("negated", ["", "-"])
def test_one_finds_only_runs_whose_inputs_one_may_see(client, tenants, negated):
    staff(client, "view_run", roles=[(tenants, "reader")])
    answer = client.get(f"/admin/run-manager/runs?search={negated}input:customer.id=42")
    assert answer.json()["total"] == (0 if negated else 1)
    assert {run["id"] for run in answer.json()["runs"]} == (set() if negated else {BETA})


def test_the_declarations_of_other_namespaces_are_not_told(client, tenants, runs):
    staff(client, roles=[(runs.namespace, "reader")])
    answer = client.get("/admin/run-manager/runs?search=input:beta.only=1")
    assert answer.status_code == 422
    assert "No graph declares the input beta.only" in answer.content.decode()
    assert client.get("/admin/run-manager/runs?search=input:customer.id").status_code == 200


def test_pages_routes_views_and_bulk_operations_find_the_same_runs(admin_client, tenants):
    text = 'input:customer.id=42 -input:customer.id="42"'
    expected = {"a", "c", BETA}
    listed = admin_client.get(f"/admin/run-manager/runs?search={quote(text)}").json()
    assert {run["id"] for run in listed["runs"]} == expected
    runs = admin_client.get(f"/runs?search={quote(text)}").json()["runs"]
    assert {run["id"] for run in runs} == expected
    page = admin_client.get(f"/admin/run-manager/?search={quote(text)}")
    assert run_ids_in(page) == expected
    body = {"action": "label", "filter": {"search": text}, "params": {"add": {"found": "1"}}}
    answer = admin_client.post(BULK, body, content_type="application/json")
    assert (answer.status_code, answer.json()["total"]) == (202, 3)
    bulk_runner.run_waiting(60)
    assert set(Run.objects.filter(labels__found="1").values_list("run_id", flat=True)) == expected
    saved = {"name": "mine", "query": f"search={quote(text)}"}
    view = admin_client.post(
        "/admin/run-manager/saved-views", saved, content_type="application/json"
    )
    assert view.status_code == 200, view.content
    query = view.json()["query"]
    again = admin_client.get(f"/admin/run-manager/runs?{query}").json()
    assert {run["id"] for run in again["runs"]} == expected


def test_a_bulk_operation_whose_input_is_declared_no_more_changes_nothing(tenants, publish):
    operation = bulk.ask("archive", {"search": ["-input:ключ=знач"]}, SYSTEM.with_door("command"))
    publish("a")
    bulk_runner.run_waiting(60)
    operation.refresh_from_db()
    assert (operation.status, operation.done, operation.failed) == ("stopped", 0, 0)
    assert "No graph declares the input" in operation.error


# --- what a search costs --------------------------------------------------------------------------


@pytest.fixture
def many(publish):
    """Runs that have an input with thousands of values, one with ten, and one with two."""
    graph = publish("a", settings={"indexed_inputs": ["id", "kind", "half"]})
    now = timezone.now()
    runs = Run.objects.bulk_create(
        Run(
            namespace=graph.namespace,
            run_id=f"r{at}",
            graph=graph,
            version=graph.current,
            created_at=now - timedelta(seconds=at),
            initial_data={"id": at, "kind": at % 10, "half": at % 2},
        )
        for at in range(5000)
    )
    paths = {row.pk: (row.path,) for row in IndexedInput.objects.all()}
    RunInput.objects.bulk_create(
        row for run in runs for row in input_index.rows_of(run.pk, run.initial_data, paths)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


SCANS = (
    "Seq Scan on statemanager_runs_run",
    "Seq Scan on statemanager_runs_runinput",
    "SCAN statemanager_runs_run\n",
    "SCAN U0\n",
)
INDEXES = ("sm_run_input_by_value", "sm_run_input_once")


def test_a_page_of_a_search_is_read_from_indexes(many):
    for value, ordering in product(("id=17", "kind=3", "half=1", "id=-1"), ("-time", "id")):
        filters = RunFilters.of_mapping({"search": f"input:{value}"})
        matching = filters.apply(Run.objects.all(), SYSTEM)
        plan = f"{lists.run_page(matching, 0, 50, ORDERINGS[ordering]).explain()}\n"
        assert any(index in plan for index in INDEXES), plan
        assert not [scan for scan in SCANS if scan in plan], plan


def test_a_search_for_a_rare_value_reads_as_many_rows_as_have_it(many):
    matching = RunFilters.of_mapping({"search": "input:id=17"}).apply(Run.objects.all(), SYSTEM)
    plan = f"{matching.explain()}\n"
    assert "sm_run_input_by_value" in plan, plan
    assert "sm_run_newest" not in plan, "the runs are found by their keys"
