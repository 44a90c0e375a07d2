"""Every token of the search language means the same on both databases.

The table says which of a few odd runs each search finds. It runs on SQLite and on PostgreSQL, whose
server knows only ASCII letters (`--no-locale`).
"""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from graphs.auth.callers import SYSTEM
from graphs.models import Graph, Namespace
from runs.models import Artifact, Checkpoint, RecurringRerun, Run
from runs.queries.filters import ManagerFilter, OfRunFilter, RunFilters
from runs.queries.search import TOKENS, parse

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
ENDED = {"status": "completed", "started_at": START, "finished_at": START + timedelta(seconds=5)}
ALL = frozenset("abcde")


@pytest.fixture
def runs(namespace):
    """Runs whose names are their letters in ALL; `e` has no more than it must have."""
    other = Namespace.objects.create(name="Ärzte")
    graphs = [
        Graph.objects.create(namespace=namespace, name="health"),
        Graph.objects.create(namespace=other, name="Заказ"),
    ]
    rows = {
        "a": {
            **ENDED,
            "run_id": "Order_1",
            "name": "ÄRGER 100%",
            "graph": graphs[0],
            "username": "Ann",
            "workspace": "Büro",
            "session_id": "S1",
            "current_node": "Größe",
            "labels": {"env": "prod", "0": "null", "ключ": "знач"},
            "trigger": "admin",
        },
        "b": {
            **ENDED,
            "status": "failed",
            "run_id": "заказ-17",
            "name": "straße",
            "namespace": other,
            "graph": graphs[1],
            "username": "ann",
            "workspace": "BÜRO",
            "error_message": "ÇA NE VA PAS",
            "labels": {"env": "Prod", 'a"b\\c': "x=y", "d.e": ""},
        },
        "c": {
            "run_id": "order51",
            "name": "ärger",
            "graph": graphs[0],
            "workspace": "büro ",
            "status": "cancelled",
            "finished_at": START,  # it never started
            "labels": {"env": ""},
        },
        "d": {
            "run_id": "x" * 199,
            "name": "a\\b  c",
            "status": "running",
            "started_at": START,
            "labels": {"a=b": "1 b=2", "два слова": "x"},
        },
        "e": {"run_id": "e", "name": "", "created_at": START - timedelta(days=400)},
    }
    made = {}
    for letter, values in rows.items():
        defaults = {"namespace": namespace, "created_at": START, **values}
        made[letter] = Run.objects.create(**defaults)
    made["c"].parent = made["a"]
    made["c"].root = made["a"].pk
    made["c"].save()
    RecurringRerun.objects.create(
        run=made["d"], namespace=namespace, expression="0 6 * * *", author="ann"
    )
    Checkpoint.objects.create(run=made["a"], checkpoint_id="1", type="json", body=b"{}")
    Artifact.objects.create(run=made["b"], state=uuid4(), name="f.txt", kind="file", size=1)
    return {run.pk: letter for letter, run in made.items()}


SEARCHES = {
    # Text and patterns: in any case, also of letters that are not ASCII.
    "ärger": "ac",
    "ÄRGER": "ac",
    "ORDER": "ac",
    "order_1": "a",
    "100%": "a",
    "a\\b": "d",
    "B  C": "d",
    "b c": "",
    'name:C"': "",
    "заказ": "b",
    "ЗАКАЗ": "b",
    "STRAßE": "b",
    "strasse": "",
    "*RGER": "c",
    "är*": "ac",
    "Ä*": "ac",
    "заКАЗ*": "b",
    "*%": "a",
    "order_*": "a",
    "*": "abcde",
    # Tokens whose value is exact, and their patterns.
    "status:failed": "b",
    "status:error,active": "bde",
    "status:ENDED": "abc",
    "graph:health": "ac",
    "graph:Health": "",
    "graph:HEAL*": "ac",
    "graph:заказ": "",
    "graph:заказ*": "b",
    "graph:Ärzte/Заказ": "b",
    "graph:*": "abc",
    "graph:Ärzte/*": "b",
    "graph:ä*/зак*": "b",
    "graph:*/health": "ac",
    "user:Ann": "a",
    "user:ANN*": "ab",
    "workspace:Büro": "a",
    "workspace:BÜRO*": "abc",
    'workspace:"büro "': "c",
    "namespace:Ärzte": "b",
    "namespace:ärzte": "",
    "namespace:ä*": "b",
    "trigger:admin": "a",
    "trigger:API": "bcde",
    "trigger:a*": "abcde",
    "trigger:*DMIN": "a",
    "id:заказ-17": "b",
    "id:Заказ-17": "",
    "id:ORDER*": "ac",
    "id:order_*": "a",
    "node:Größe": "a",
    "node:gRÖSSE*": "",
    "node:gRÖßE*": "a",
    "session:S1": "a",
    "session:s*": "a",
    "parent:Order_1": "c",
    "parent:order*": "c",
    # Tokens for a part.
    "name:ÄRGER": "ac",
    "name:aße": "b",
    'name:"R 1"': "a",
    "error:ça": "b",
    # Labels: keys and values are exact, whatever characters they have.
    "label:env": "abc",
    "label:env=prod": "a",
    "label:env=": "c",
    "label:ENV": "",
    "label:ключ": "a",
    "label:ключ=знач": "a",
    "label:КЛЮЧ=знач": "",
    "label:0": "a",
    "label:0=null": "a",
    "label:d.e": "b",
    "label:d.e=": "b",
    'label:a"b\\c=x=y': "b",
    'label:"a\\"b\\\\c"="x=y"': "b",
    'label:"a=b"="1 b=2"': "d",
    'label:"a=b"': "",
    'label:"a=1 b=2"': "",
    'label:"два слова"=x': "d",
    "label:none": "",
    "label:none=none": "",
    # Times, of which some are missing.
    "created:2026-11-01": "abcd",
    "created:<2026-11-01": "e",
    "created:<=2026-11-01": "abcde",
    "created:>=2026-11-01T12:00": "abcd",
    "created:>2026-11-01": "",
    "finished:2026-11-01": "abc",
    "finished:<2026-11-01T12:00:05": "c",
    "finished:>2026-11-01T12:00": "ab",
    "finished:>=2026-11-01T12:00:05": "ab",
    "duration:<5s": "",
    "duration:<6s": "ab",
    "duration:<=5s": "ab",
    "duration:<=4.9s": "",
    "duration:>5s": "",
    "duration:>=5s": "ab",
    "duration:>4.9s": "ab",
    "duration:>5.1s": "",
    "recovered:no": "b",
    "recovered:yes": "",
    "has:checkpoint": "a",
    "has:artifact": "b",
    "has:rerun": "a",
    "has:schedule": "d",
}


WITH_TEXT = {
    "B  C status:running": "d",
    "status:running  b  c ": "d",
    "a\\b status:running c": "",
    "label:a=b=1 b=2": "",
    "ärger -status:completed": "c",
}


def searched(runs, text):
    search = parse(text)
    assert not search.notices
    pks = Run.objects.filter(search.condition).values_list("pk", flat=True)
    return "".join(sorted(runs[pk] for pk in pks))


def test_a_search_finds_the_same_runs_on_both_databases(runs):
    assert {text: searched(runs, text) for text in SEARCHES} == SEARCHES
    assert {text: searched(runs, text) for text in WITH_TEXT} == WITH_TEXT


@pytest.mark.parametrize(
    "token",
    [
        "trigger:zzz",
        "created:=>2026-11-01",
        "created:<>2026-11-01",
        "created:=2026-11-01",
        "finished:<<2026-11-01",
        "duration:5m",
        "duration:=<5m",
        'label:"a"b',
        'label:""=x',
    ],
)
def test_a_token_with_an_unknown_value_is_searched_as_text(token):
    [notice] = parse(token).notices
    assert "was searched as text" in notice


def test_a_negated_token_finds_all_other_runs(runs):
    tokens = [text for text in SEARCHES if ":" in text]
    others = {text: "".join(sorted(ALL - set(SEARCHES[text]))) for text in tokens}
    assert {text: searched(runs, f"-{text}") for text in tokens} == others
    assert {text: searched(runs, f"{text} -{text}") for text in tokens} == dict.fromkeys(tokens, "")


def test_every_token_is_in_the_table():
    inputs = {"input"}  # has a table of its own: test_input_search.py
    assert {text.partition(":")[0] for text in SEARCHES if ":" in text} | inputs == set(TOKENS)


FILTERS = {
    "search=ЗАКАЗ": "b",
    "search=-label:env=prod": "bcde",
    "username=Ann": "a",
    "username=ANN": "",
    "workspace=büro ": "c",
    "workspace=büro": "",
    "status=failed,running": "bd",
    "namespace=Ärzte": "b",
    "namespace=ärzte": "",
    "graph=Заказ": "b",
    "graph=ЗАК*": "b",
    "trigger=admin": "a",
    "label=ключ=знач": "a",
    "label=env=": "c",
    "since=36500d": "abcde",
    "created_after=2026-11-01T12:00:00Z": "abcd",
    "created_before=2026-11-01T12:00:00Z": "e",
    "recovered=no": "b",
    "archived=yes": "",
    "session=S1": "a",
    "session=s*": "a",
    "session=s1": "",
}


def filtered(runs, query):
    name, _, value = query.partition("=")
    matching = RunFilters.of_mapping({name: value}).apply(Run.objects.all(), SYSTEM)
    return "".join(sorted(runs[run.pk] for run in matching))


def test_a_filter_finds_the_same_runs_on_both_databases(runs):
    assert {query: filtered(runs, query) for query in FILTERS} == FILTERS


def test_every_filter_is_in_the_table():
    assert {query.partition("=")[0] for query in FILTERS} == set(ManagerFilter.base_filters)


def test_the_filter_of_run_ids_matches_in_any_case(runs):
    expected = {"ORDER": "ac", "ЗАказ": "b", "order_*": "a", "*-17": "b"}
    for run_id, letters in expected.items():
        filterset = OfRunFilter({"run_id": run_id}, Run.objects.all())
        assert filterset.is_valid()
        assert "".join(sorted(runs[run.pk] for run in filterset.qs)) == letters


def test_a_duration_is_exact_for_runs_that_the_engine_ended(run_graph):
    """The engine writes times by the database's clock, whose digits must not count."""
    run = run_graph("a")
    started = run.finished_at - timedelta(seconds=5)
    Run.objects.filter(pk=run.pk).update(started_at=started)
    assert not Run.objects.filter(parse("duration:<5s").condition).exists()
    assert not Run.objects.filter(parse("duration:>5s").condition).exists()
    assert Run.objects.filter(parse("duration:>=5s").condition).exists()
